"""The pictures of a sweep: curves along its axes and grids over two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.evidence.places import DEFENDER
from backfire.evidence.published.sweep_table import SweepTable, spot_key
from backfire.evidence.series import Series, Setting
from backfire.reporting.charts.grid import grid_chart
from backfire.reporting.charts.series import PlottedLine, Point, bottom, series_chart
from backfire.reporting.sweeps.layout import (
    COLOURS,
    MAX_PANELS,
    Panel,
    line_axis,
    numeric,
    panels,
    same,
    value_of,
)

MAX_GROUPS = 6
CLEAN = "clean_accuracy"


@dataclass(frozen=True)
class SweepFigure:
    """A chart with its heading."""

    title: str
    note: str
    chart: Markup


@dataclass(frozen=True)
class FigureGroup:
    """Charts of the same kind.

    Attributes:
        score: What they show.
        axis: Along which axis.
        keys: Name and colour class of each curve.
        figures: At most 24.
        more: How many were left out.
        dots: Whether there is a point for each agent beside the rings of the seeds.
    """

    score: str
    axis: str
    keys: Sequence[tuple[str, str]]
    figures: Sequence[SweepFigure]
    more: int
    dots: bool


@dataclass(frozen=True)
class CurvePanels:
    """A score along an axis: for each panel its curves.

    Attributes:
        score: The score.
        axis: The axis.
        keys: Name and colour class of each curve; none where there is one curve alone.
        panels: What the curves of a panel have in common, in words, and the curves; at most 24.
        more: How many panels were left out.
    """

    score: str
    axis: str
    keys: Sequence[tuple[str, str]]
    panels: Sequence[tuple[str, Sequence[PlottedLine]]]
    more: int


def curve_panels(table: SweepTable) -> list[CurvePanels]:
    """Return the main score, and clean accuracy, along each axis of numbers.

    Without an axis of numbers it is the axis of most values.
    """
    axes = [name for name, values in table.axes.items() if numeric(values)]
    if not axes and (longest := max(table.axes, key=lambda n: len(table.axes[n]), default=None)):
        axes = [longest] if len(table.axes[longest]) > 1 else []
    scores = [score for score in (table.main, CLEAN) if score in table.scores]
    found = (_panels(table, score, axis) for axis in axes for score in scores)
    return [group for group in found if group.panels][:MAX_GROUPS]


def _panels(table: SweepTable, score: str, axis: str) -> CurvePanels:
    by = line_axis(table, (axis,))
    inside = [axis] if by is None else [axis, by]
    names: Sequence[Setting] = (
        [score] if by is None else table.defenders if by == DEFENDER else table.axes[by]
    )
    found = list(panels(table, score, inside))
    drawn = [
        (panel.title, _lines(table, panel, score, axis, by, names)) for panel in found[:MAX_PANELS]
    ]
    keys = [] if by is None else [(_named(by, n), _colour(k)) for k, n in enumerate(names)]
    return CurvePanels(score, axis, keys, drawn, max(0, len(found) - MAX_PANELS))


def curves(table: SweepTable) -> list[FigureGroup]:
    """Return the charts of `curve_panels`."""
    return [_curves(table, group) for group in curve_panels(table)]


def _curves(table: SweepTable, group: CurvePanels) -> FigureGroup:
    score, axis = group.score, group.axis
    low = bottom([one for _, lines in group.panels for one in lines])  # one scale for all charts
    figures = []
    for shared, lines in group.panels:
        title = shared or score
        label = f"{score} along {axis}: {title}"
        chart = series_chart(lines, table.title(axis), table.axes[axis], label, low)
        figures.append(SweepFigure(title, score if shared else "", chart))
    return FigureGroup(score, axis, group.keys, figures, group.more, _has_dots(table, score))


def _has_dots(table: SweepTable, score: str) -> bool:
    return any(row.agent and row.score == score for row in table.rows)


def _named(axis: str, value: Setting) -> str:
    return str(value) if axis == DEFENDER else f"{axis} {value}"


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _lines(
    table: SweepTable,
    panel: Panel,
    score: str,
    axis: str,
    by: str | None,
    names: Sequence[Setting],
) -> list[PlottedLine]:
    lines = []
    for k, name in enumerate(names):
        mine = [one for one in panel.series if by is None or same(value_of(one, by), name)]
        points = [
            Point(x, one.estimate, _motes(table, one))
            for x, value in enumerate(table.axes[axis])
            for one in mine
            if same(one.at[axis], value)
        ]
        lines.append(PlottedLine(score if by is None else _named(by, name), _colour(k), points))
    return lines


def _motes(table: SweepTable, series: Series) -> Sequence[float]:
    return table.dots.get((*spot_key(series.at, series.defender), series.score), ())


def grids(table: SweepTable) -> list[FigureGroup]:
    """Return grids of the main score over the two longest axes of numbers, a panel for the rest."""
    found = [name for name, values in table.axes.items() if numeric(values)]
    longest = sorted(found, key=lambda name: -len(table.axes[name]))[:2]
    if len(longest) < 2:
        return []
    across, down = (name for name in found if name in longest)
    shown = list(panels(table, table.main, (across, down)))
    figures = [
        SweepFigure(panel.title or table.main, table.main, _grid(table, panel, down, across))
        for panel in shown[:MAX_PANELS]
    ]
    more = max(0, len(shown) - MAX_PANELS)
    group = FigureGroup(table.main, f"{down} and {across}", [], figures, more, False)
    return [group] if figures else []


def _grid(table: SweepTable, panel: Panel, down: str, across: str) -> Markup:
    def at(row: Setting, column: Setting) -> Iterator[Series]:
        return (
            one for one in panel.series if same(one.at[down], row) and same(one.at[across], column)
        )

    rows = [
        [
            one.estimate if (one := next(at(row, column), None)) else None
            for column in table.axes[across]
        ]
        for row in table.axes[down]
    ]
    label = f"{table.main} over {down} and {across}: {panel.title}"
    return grid_chart(
        rows,
        (table.title(down), table.axes[down]),
        (table.title(across), table.axes[across]),
        label,
    )
