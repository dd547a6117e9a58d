"""The picture of a bench: each defence by its worst case and the clean accuracy that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from backfire.leaderboard.gates import COST_ATTACKED
from backfire.leaderboard.standings import EDGE, Bench, LeaderboardRow
from backfire.reporting.charts.scatter import ScatterPoint, scatter_chart
from backfire.reporting.text import plain

MAX_SPOTS: Final = 40
# By what a row is: its shape and colour, and what the legend says.
_KINDS: Final = {
    "ranked": ("dot", "c1", "ranked"),
    EDGE: ("diamond", "c4", "ranked, at the edge of a gate"),
    "barred": ("ring", "control", "not ranked"),
}


@dataclass(frozen=True)
class Picture:
    """A chart with its legend.

    Attributes:
        chart: The chart.
        key: Shape, colour and words of each kind of point that is in it.
        names: Label and defence of each point.
        more: Defences that found no room.
    """

    chart: Markup
    key: Sequence[tuple[str, str, str]]
    names: Sequence[tuple[str, str]]
    more: int


def scatter(bench: Bench) -> Picture | None:
    """Return the picture of a bench; None where no defence's clean accuracy is known."""
    rows = [row for row in bench.standings if row.clean.value is not None]
    shown = rows[:MAX_SPOTS]
    if not shown:
        return None
    spots = [_spot(row, str(number)) for number, row in enumerate(shown, 1)]
    asked = bench.reference
    limit = None if asked is None else (max(0.0, asked - COST_ATTACKED), "asked under attack")
    chart = scatter_chart(
        spots,
        ("lowest clean accuracy under attack", f"{plain(bench.score, 40)} of the worst attack"),
        f"{plain(bench.score, 40)} of the worst attack against clean accuracy, a point per defence",
        limit,
    )
    kinds = {_kind(row) for row in shown}
    return Picture(
        chart,
        [words for kind, words in _KINDS.items() if kind in kinds],
        [(str(number), row.defence.name) for number, row in enumerate(shown, 1)],
        len(rows) - len(shown),
    )


def _spot(row: LeaderboardRow, label: str) -> ScatterPoint:
    shape, colour, _ = _KINDS[_kind(row)]
    return ScatterPoint(row.defence.name, label, row.clean, row.worst_case, shape, colour)


def _kind(row: LeaderboardRow) -> str:
    if row.place is None:
        return "barred"
    return EDGE if EDGE in row.flags else "ranked"
