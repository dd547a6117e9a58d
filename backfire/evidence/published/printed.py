"""A paper's numbers as the table that they come from: rows and columns instead of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from backfire.evidence.places import DEFENDER
from backfire.evidence.published.judging import FigureLine
from scenarios.sweep.published import ALL_ATTACKERS

# As many columns of numbers as fit beside each other.
MAX_COLUMNS: Final = 6
_SCORE: Final = "score"
_GROUP: Final = "group"


@dataclass(frozen=True)
class PrintedTable:
    """The paper's table.

    Attributes:
        labels: What tells rows apart: names of axes, "defender", "score" and "group".
        columns: Heads of the columns of numbers.
        rows: For each row its labels and its numbers, None where none is printed.
    """

    labels: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[FigureLine | None]]]


def printed_table(figures: Sequence[FigureLine]) -> PrintedTable:
    """Return figures as a table: what has most values of at most six becomes its columns.

    A second figure of the same row and column begins a row of its own, so that none is lost.
    """
    places = [_place(line) for line in figures]
    values = {
        name: list(dict.fromkeys(place.get(name, "") for place in places))
        for name in dict.fromkeys(name for place in places for name in place)
    }
    varying = [name for name, found in values.items() if len(found) > 1]
    fitting = [name for name in varying if len(values[name]) <= MAX_COLUMNS]
    across = max(fitting, key=lambda name: len(values[name]), default=_SCORE)
    labels = [name for name in varying if name != across]
    columns = values.get(across, [""])
    rows: list[tuple[list[str], list[FigureLine | None]]] = []
    for place, line in zip(places, figures, strict=True):
        names = [place.get(name, "") for name in labels]
        column = columns.index(place.get(across, ""))
        _free(rows, names, column, len(columns))[column] = line
    heads = [one if across in (DEFENDER, _SCORE, _GROUP) else f"{across} {one}" for one in columns]
    return PrintedTable(labels, heads, rows)


def _place(line: FigureLine) -> dict[str, str]:
    """Return where a figure stands, by the name of what tells it from others."""
    at = {} if line.spot is None else {name: _words(value) for name, value in line.spot.at.items()}
    defender = "" if line.spot is None else line.spot.defender
    group = "" if line.group == ALL_ATTACKERS else line.group
    return at | {DEFENDER: defender, _SCORE: line.figure.score or "", _GROUP: group}


def _words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _free(
    rows: list[tuple[list[str], list[FigureLine | None]]], names: list[str], column: int, many: int
) -> list[FigureLine | None]:
    """Return the cells of the row of these names that is free in a column; a new one if none is."""
    for known, cells in rows:
        if known == names and cells[column] is None:
            return cells
    rows.append((names, [None] * many))
    return rows[-1][1]
