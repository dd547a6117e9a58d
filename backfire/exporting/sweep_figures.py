"""The figures of a sweep: its main score, and clean accuracy, along each axis of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from backfire.evidence.published.sweep_table import SweepTable
from backfire.evidence.series import Setting
from backfire.exporting.figures import ExportFigure, FigureCurve
from backfire.exporting.names import file_name, score_words
from backfire.reporting.charts.series import WIDE_RATIO, PlottedLine, tick
from backfire.reporting.sweeps.figures import CurvePanels, curve_panels
from backfire.reporting.sweeps.layout import numeric
from scenarios.text.quoting import printable

_INTERVAL: Final = (
    "Points: means over {seeds} seeds. Bars: 95 % intervals of the mean over seeds (Student's t); "
    "a point without a bar has none, as its seeds are all alike, are one, or fall into two heaps."
)


def sweep_figures(table: SweepTable) -> list[ExportFigure]:
    """Return a figure for each panel of curves that the sweep's report draws."""
    return [figure for group in curve_panels(table) for figure in _figures(table, group)]


def _figures(table: SweepTable, group: CurvePanels) -> Iterator[ExportFigure]:
    values = table.axes[group.axis]
    ordered = numeric(values) and list(values) == sorted(set(values), key=float)
    places = [float(v) for v in values] if ordered else [float(k) for k in range(len(values))]
    ticks = () if ordered else tuple(zip(places, map(_tick, values), strict=True))
    for shared, lines in group.panels:
        yield ExportFigure(
            file_name(group.score, "along", group.axis),
            _caption(table, group, shared),
            f"{score_words(group.score)} (%)",
            printable(table.title(group.axis), 60),
            curves=[_curve(line, places) for line in lines if line.points],
            ticks=ticks,
            log=ordered and places[0] > 0 and places[-1] / places[0] >= WIDE_RATIO,
        )


def _caption(table: SweepTable, group: CurvePanels, shared: str) -> str:
    where = f" ({printable(shared, 200)})" if shared else ""
    return (
        f"{score_words(group.score)} along {printable(group.axis, 60)} in "
        f"{printable(table.name, 80)}{where}. " + _INTERVAL.format(seeds=len(table.seeds))
    )


def _tick(value: Setting) -> str:
    return printable(tick(value), 24)


def _curve(line: PlottedLine, places: Sequence[float]) -> FigureCurve:
    points = line.points
    return FigureCurve(
        printable(line.name, 40),
        tuple(places[one.x] for one in points),
        tuple(one.found.value for one in points),
        tuple(one.found.low for one in points),
        tuple(one.found.high for one in points),
    )
