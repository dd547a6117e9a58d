"""The reproductions of the library, by the name that a user types: ``s1-table3``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scenarios import library
from scenarios.text.errors import LocatedProblem, ScenarioError
from scenarios.text.quoting import listing, nearest, shown

PAPERS: Final = "papers"
SIZES: Final = ("small", "mnist")


def sizes_of() -> dict[str, list[str]]:
    """Return the sizes of each table (``full``, ``small``, ``mnist``) by its name."""
    found: dict[str, list[str]] = {}
    for name, _, size in _files():
        found.setdefault(name, []).append(size or "full")
    return found


def find_reproduction(name: str, size: str = "") -> Path:
    """Return the sweep file of a paper's table.

    Args:
        name: Such as ``s1-table3``; underscores and hyphens are the same.
        size: "" for the paper's own size, ``small`` for the twin on digits, ``mnist``.

    Raises:
        ScenarioError: If there is none, with the nearest name.
    """
    wanted = name.casefold().replace("_", "-")
    found = {(known, kind): file for known, file, kind in _files()}
    if file := found.get((wanted, size)):
        return file
    names = dict.fromkeys(known for known, _ in found)
    if wanted in names:
        sizes = [kind or "full" for known, kind in found if known == wanted]
        message = f"expected a size of {wanted} (there are: {listing(sizes)}), got {size or 'full'}"
    else:
        hint = nearest(wanted, names) or f" (there are: {listing(names, 60)})"
        message = f"expected a table of a paper, got {shown(name)}{hint}"
    raise ScenarioError([LocatedProblem("reproduce", None, None, "", message)])


def _files() -> Iterator[tuple[str, Path, str]]:
    """Yield name, file and size."""
    for file in sorted((library.FOLDER / PAPERS).glob("*/*.yaml")):
        stem, size = file.stem, ""
        for known in SIZES:
            if stem.endswith(f"_{known}"):
                stem, size = stem.removesuffix(f"_{known}"), known
        yield f"{file.parent.name}-{stem}".casefold().replace("_", "-"), file, size
