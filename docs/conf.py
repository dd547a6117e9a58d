"""How Sphinx makes a site of these pages, which read the same in the repository."""

import os
import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

project = "Backfire"
author = "The Backfire maintainers"
copyright = author
version = release = installed("backfire")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Backfire {version}"
html_copy_source = False

# Pages link to headings of others as the repository does: by GitHub's rule.
myst_heading_anchors = 3

# Docstrings are Google's style; fields of data classes are told of under "Attributes" alone.
autodoc_default_options = {"exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

DOCS = Path(__file__).parent
# Pages of the site that hold a file from elsewhere in the repository.
FROM_ELSEWHERE = {"start": "README.md", "measured": "benchmarks/RESULTS.md"}
# The many pages below one, which names them in sentences.
BELOW = {"reproductions/README": "s*"}


def setup(app: Any) -> None:  # noqa: ANN401 - Sphinx's own class
    """Let every page be rewritten for the site before it is read."""
    app.connect("source-read", for_the_site)


def for_the_site(_: object, page: str, source: list[str]) -> None:
    """Put in what stands elsewhere, and lead links to it, or to nothing of the site, right."""
    path = DOCS / f"{page}.md"
    if page in FROM_ELSEWHERE:
        path = DOCS.parent / FROM_ELSEWHERE[page]
        source[0] = path.read_text(encoding="utf-8")
    source[0] = re.sub(
        r"(!?)\[([^][]*)\]\(([^()#\s:]+)((?:#[^()\s]*)?)\)",
        lambda found: _link(path.parent, *found.groups()),
        source[0],
    )
    if page in BELOW:
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{BELOW[page]}\n```\n"


def _link(folder: Path, image: str, text: str, target: str, anchor: str) -> str:
    """Return a link as the site needs it; what is in no page of the site loses its link."""
    path = Path(os.path.normpath(folder / target))
    for page, file in FROM_ELSEWHERE.items():
        if path == DOCS.parent / file:
            return f"[{text}](/{page}.md{anchor})"
    if path.is_relative_to(DOCS):
        return f"{image}[{text}](/{path.relative_to(DOCS).as_posix()}{anchor})"
    return text if path.exists() else f"{image}[{text}]({target}{anchor})"
