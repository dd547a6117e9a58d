"""Which verdicts differ between two pages of the same reproduction, an old and a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from backfire.evidence.published.judging import ClaimVerdict

_CELL: Final = re.compile(r"(?<!\\)\|")
_VERDICT: Final = re.compile(r"^\S \*\*(.+)\*\*$")
_NUMBER: Final = re.compile(r"^(\d+)\. ")
# Means within a comparison, which differ from page to page.
_MEAN: Final = re.compile(r" = -?[\d.]+ %( in two heaps)?")
_NONE: Final = "not there"
_KNOWN: Final = frozenset(verdict.value for verdict in ClaimVerdict)


class Change(NamedTuple):
    """A line whose verdict is another one.

    Attributes:
        what: ``claim``, ``comparison`` or ``figure``.
        text: The line, without its scores.
        old: The verdict before; ``not there`` where the line was not.
        new: The verdict now.
    """

    what: str
    text: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.what}: {self.old} -> {self.new}: {self.text}"


def changes(old: str, new: str) -> list[Change]:
    """Return the lines whose verdict differs, claims first.

    Args:
        old: A page of Markdown as `backfire reproduce --markdown` writes it.
        new: Another one.
    """
    before, after = dict(_verdicts(old)), dict(_verdicts(new))
    found = [
        Change(*key, before.get(key, _NONE), after.get(key, _NONE))
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]
    return sorted(found, key=lambda one: ("claim", "comparison", "figure").index(one.what))


def _verdicts(page: str) -> Iterator[tuple[tuple[str, str], str]]:
    claims: dict[str, str] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in _CELL.split(line)[1:-1]]
        place = next((k for k, cell in enumerate(cells) if _verdict(cell)), None)
        if place is None:
            continue
        first, verdict = cells[0], _verdict(cells[place])
        if place == 2:  # claim, ours, verdict
            number = _NUMBER.match(first)
            text = first[number.end() :] if number else first
            claims[number[1] if number else first] = text
            yield ("claim", text), verdict
        elif len(cells) == 4:  # number, compared, difference, verdict
            yield ("comparison", f"{claims.get(first, first)}: {_MEAN.sub('', cells[1])}"), verdict
        else:
            yield ("figure", first), verdict


def _verdict(cell: str) -> str:
    """Return the verdict of a cell; "" where it holds none."""
    found = _VERDICT.match(cell)
    return found[1] if found and found[1] in _KNOWN else ""
