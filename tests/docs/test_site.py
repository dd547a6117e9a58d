"""The pages make one site: linked, complete, and with the words that the code has."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
AT_ROOT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PACKAGES = ("learning", "scenarios", "strategies", "clients", "server", "backfire")


def name(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("page", [*PAGES, *AT_ROOT], ids=name)
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^()#\s]+)(?:#[^()\s]*)?\)", prose(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def listed(page, text):
    """Return the pages that the toctrees of a page name."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S):
        for line in block.split("\n"):
            if line and not line.startswith(":"):
                yield from page.parent.glob(f"{line}.md")


def test_every_page_can_be_reached_on_the_site():
    there = {DOCS / "index.md"}
    there |= {path for page in PAGES for path in listed(page, page.read_text())}
    there |= set((DOCS / "reproductions").glob("s*.md"))  # docs/conf.py lists them
    assert [name(page) for page in PAGES if page not in there] == []


def test_the_api_pages_name_modules_that_are_there():
    documented = [
        module
        for page in (DOCS / "api").glob("*.md")
        for module in re.findall(r"^\.\. automodule:: (\S+)$", page.read_text(), re.M)
    ]
    assert len(documented) > 15
    for module in documented:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module


def site():
    spec = importlib.util.spec_from_file_location("site_conf", DOCS / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    return conf


@pytest.mark.parametrize(
    ("page", "text", "there"),
    [
        ("verdicts", "[seen](../benchmarks/RESULTS.md#x)", "[seen](/measured.md#x)"),
        ("reproductions/s0", "[a](s1.md), [b](../filters.md#c)",
         "[a](/reproductions/s1.md), [b](/filters.md#c)"),
        ("index", "[it](../README.md) is [free](../LICENSE)", "[it](/start.md) is free"),
        ("index", "[gone](../gone.md) [out](https://x.org/y.md)",
         "[gone](../gone.md) [out](https://x.org/y.md)"),
    ],
)  # fmt: skip
def test_links_out_of_the_folder_lead_right_on_the_site(page, text, there):
    source = [text]
    site().for_the_site(None, page, source)
    assert source == [there]


def test_the_site_holds_the_readme_with_links_of_its_own():
    source = ["a stub"]
    site().for_the_site(None, "start", source)
    assert "(docs/" not in source[0]
    assert "(/verdicts.md)" in source[0]
    assert "![" in source[0]
    assert "(/report.png)" in source[0]


def words():
    return re.findall(
        r"^\| (?!word \||-)(.+?) \| (.+) \|$", (DOCS / "glossary.md").read_text(), re.M
    )


def test_the_glossary_has_one_line_for_each_word():
    found = [word for word, _ in words()]
    assert len(found) > 60
    assert len(set(found)) == len(found)
    assert len({meaning for _, meaning in words()}) == len(found)


def test_the_classes_of_the_glossary_are_in_the_code():
    defined = {
        found
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for found in re.findall(r"^(?:class |(?=\w+ = ))(\w+)", path.read_text(), re.M)
    }
    named = {word.strip("`") for word, _ in words() if re.fullmatch("`[A-Z][A-Za-z]+`", word)}
    assert len(named) > 8
    assert named - {"Grid"} <= defined  # Flower's


def test_the_citation_is_of_this_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").iterdir()), ids=name)
def test_scripts_can_be_run_and_are_explained(script):
    assert script.stat().st_mode & 0o111, "not executable"
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert f"scripts/{script.name}" in (ROOT / "CONTRIBUTING.md").read_text()
