"""Pages written by hand whose tables are made from scores: each table between two comments.

``<!-- backfire summary: s0-e1-small claims --by draw -->``, the table, ``<!-- end -->``. The first
word names a page beside it, or in `reproductions` beside it, whose scores are told of; the others
are those of `backfire.evidence.published.summaries`. A table whose scores were not kept stays as it
is.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from backfire.errors import UsageError
from backfire.evidence.published.reproductions import SIZES, find_reproduction
from backfire.evidence.published.summaries import summary
from backfire.evidence.published.sweep_table import SweepTable
from backfire.sweeps.page_scores import beside
from backfire.sweeps.results import from_scores
from scenarios.loader import load_sweep
from scenarios.text.quoting import printable
from server.errors import RunFolderError
from server.store.reading import MAX_SMALL, read_bytes

_BLOCK: Final = re.compile(
    r"(<!-- backfire summary: ([^\n]*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL
)
_COMMAND: Final = re.compile(r"^```\n(backfire reproduce [^\n]*)\n```$", re.MULTILINE)


class Filled(NamedTuple):
    """A page with its tables made anew.

    Attributes:
        text: The page.
        made: What was made, by its words.
        kept: What stays as it was, since no scores were kept.
    """

    text: str
    made: tuple[str, ...]
    kept: tuple[str, ...]


class PlayedPage(NamedTuple):
    """What a page says was played."""

    name: str
    size: str
    overrides: tuple[str, ...]
    command: str


def is_marked(page: Path) -> bool:
    """Return whether a page has tables that are made from scores."""
    return _BLOCK.search(_text(page)) is not None


def filled(page: Path) -> Filled:
    """Return a page with every marked table made anew from the scores that lie beside it.

    Raises:
        UsageError: If the page marks no table, or one that cannot be made; one line.
        RunFolderError: If a file cannot be read, or holds other games' scores; one line.
    """
    made: list[str] = []
    kept: list[str] = []

    @cache
    def table_of(name: str) -> SweepTable | None:
        return _table(page, name)

    def again(found: re.Match[str]) -> str:
        name, *words = shlex.split(found[2])
        table = table_of(name)
        (kept if table is None else made).append(found[2])
        if table is None:
            return found[0]
        try:
            return f"{found[1]}{summary(table, words)}\n{found[4]}"
        except ValueError as error:
            raise UsageError(f"{page}: {printable(found[2], 120)}: {error}") from None

    text = _BLOCK.sub(again, _text(page))
    if not made and not kept:
        raise UsageError(
            f"{page}: expected a table between <!-- backfire summary: ... -->, got none"
        )
    return Filled(text, tuple(made), tuple(kept))


def played_of(page: Path) -> PlayedPage:
    """Return what a reproduction's page says was played, by the command in its block of code.

    Raises:
        RunFolderError: If it cannot be read or names no such command; one line.
    """
    found = _COMMAND.search(_text(page))
    if found is None:
        raise RunFolderError(f"{page}: expected a page of backfire reproduce, got no command of it")
    _, _, name, *rest = shlex.split(found[1])
    size = next((size for size in SIZES if f"--{size}" in rest), "")
    overrides = tuple(value for option, value in pairwise(rest) if option == "--set")
    return PlayedPage(name, size, overrides, found[1])


def _table(page: Path, name: str) -> SweepTable | None:
    folders = (page.parent, page.parent / "reproductions")
    of = next((file for folder in folders if (file := folder / f"{name}.md").is_file()), None)
    if of is None or not beside(of).is_file():
        return None
    said = played_of(of)
    sweep = load_sweep(find_reproduction(said.name, said.size), said.overrides)
    return from_scores(beside(of), sweep, said.command)[0]


def _text(page: Path) -> str:
    try:
        return read_bytes(page, MAX_SMALL).decode()
    except UnicodeDecodeError:
        raise RunFolderError(f"{page}: expected text in UTF-8, got something else") from None
