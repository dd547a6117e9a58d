"""Many agents: how a score spreads over them, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from backfire.reporting.charts.intervals import symbol
from backfire.reporting.charts.svg import (
    WIDTH,
    Scale,
    box,
    element,
    line,
    percent_axis,
    picture,
    text,
)
from backfire.reporting.text import fitted, many, number, percent, plain

BINS = 20
PANEL = 74.0
HEAD = 20.0


@dataclass(frozen=True)
class HistogramSpread:
    """The values of one group.

    Attributes:
        group: Its name.
        colour: A colour class.
        values: The score of each agent.
        control: The control's score of each agent, drawn as an outline.
        alone: Agents played alone, drawn as diamonds.
    """

    group: str
    colour: str
    values: Sequence[float]
    control: Sequence[float]
    alone: Sequence[float]


def histograms(spreads: Sequence[HistogramSpread], label: str) -> Markup:
    """Return one histogram for each group, over one axis in per cent."""
    scale = Scale(8.0, WIDTH - 34)
    y, drawn = 0.0, []
    for spread in spreads:
        drawn.append(_panel(spread, scale, y + HEAD, y + HEAD + PANEL))
        y += HEAD + PANEL + 12
    return picture(y + 16, label, percent_axis(scale, HEAD, y - 4), *drawn)


def _panel(spread: HistogramSpread, scale: Scale, top: float, bottom: float) -> Markup:
    bars, outline = _counts(spread.values), _counts(spread.control)
    highest = max(int(bars.max()), int(outline.max()), 1)
    height = Scale(bottom, top, 0.0, float(highest))
    edges = [scale(k / BINS) for k in range(BINS + 1)]
    shown = [
        _bar(k, int(n), len(spread.values), edges, height, bottom) for k, n in enumerate(bars) if n
    ]
    shown.append(_steps(outline, edges, height))
    shown += [symbol("diamond", scale(value), bottom) for value in spread.alone]
    shown.append(line(edges[0], bottom, edges[-1], bottom, "base"))
    peak = text(scale.end, top - 6, f"tallest: {number(highest)}", "axis", "end")
    return element("g", _title(spread, top), peak, *shown, class_=spread.colour)


def _title(spread: HistogramSpread, top: float) -> Markup:
    mean = float(np.mean(spread.values)) if len(spread.values) else None
    agents = many(len(spread.values), "agent")
    words = f"{fitted(plain(spread.group), 10)}: mean {percent(mean)}, {agents}"
    return text(8, top - 6, words, "heading")


def _counts(values: Sequence[float]) -> NDArray[np.int64]:
    finite = np.asarray([v for v in values if 0 <= v <= 1], dtype=np.float64)
    return np.bincount(np.minimum((finite * BINS).astype(np.int64), BINS - 1), minlength=BINS)


def _bar(
    k: int, count: int, total: int, edges: list[float], height: Scale, bottom: float
) -> Markup:
    name = f"{100 * k / BINS:g} to {100 * (k + 1) / BINS:g} %: {count} of {total} agents"
    y = height(float(count))
    return box(
        edges[k] + 1, y, edges[k + 1] - edges[k] - 2, bottom - y, "bar", element("title", name)
    )


def _steps(counts: NDArray[np.int64], edges: list[float], height: Scale) -> Markup:
    if not counts.any():
        return Markup("")
    points = [f"{edges[0]:.1f},{height(0.0):.1f}"]
    for k, count in enumerate(counts):
        y = height(float(count))
        points += [f"{edges[k]:.1f},{y:.1f}", f"{edges[k + 1]:.1f},{y:.1f}"]
    points.append(f"{edges[-1]:.1f},{height(0.0):.1f}")
    return element("polyline", points=" ".join(points), class_="outline")
