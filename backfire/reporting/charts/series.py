"""Curves of a score along an axis of a sweep: mean, interval over seeds, every seed and agent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.evidence.estimates import Estimate
from backfire.evidence.words import reach_words
from backfire.reporting.charts.names import ROOM, CurveEnd, end_names
from backfire.reporting.charts.svg import WIDTH, Scale, element, line, picture, text
from backfire.reporting.text import fitted, percent, plain

HEIGHT = 176.0
LEFT = 44.0
MAX_MOTES = 400
# Values further apart than this stand on a logarithmic axis.
WIDE_RATIO = 20.0
MAX_TICKS = 9

Value = str | int | float | bool


@dataclass(frozen=True)
class Point:
    """A value of the axis.

    Attributes:
        x: Position of the value among the values of the axis, from 0.
        found: Mean over seeds; each seed is drawn as a ring.
        motes: What stands behind the seeds: each agent of each seed.
    """

    x: int
    found: Estimate
    motes: Sequence[float] = ()


@dataclass(frozen=True)
class PlottedLine:
    """A curve.

    Attributes:
        name: What it shows.
        colour: A colour class.
        points: In the order of the axis; those without a value are left out.
    """

    name: str
    colour: str
    points: Sequence[Point]


def series_chart(
    lines: Sequence[PlottedLine], axis: str, values: Sequence[Value], label: str, low: float = 0.0
) -> Markup:
    """Return the chart; the axis ends at 100 %.

    Args:
        lines: At least one.
        axis: Name of the axis.
        values: The axis' values, in order.
        label: For screen readers.
        low: Where the axis of the score begins; see `bottom`.
    """
    y = Scale(HEIGHT, 10.0, low, 1.0)
    end = WIDTH - (ROOM + 4 if len(lines) > 1 else 6)
    places = _places(values, end - 10)
    drawn = [_line(curve, places, y, k, len(lines)) for k, curve in enumerate(lines)]
    names = end_names(_ends(lines, y) if len(lines) > 1 else [], end + 4, y.end, y.start)
    return picture(HEIGHT + 34, label, _axes(axis, values, places, y, end), *drawn, names)


def _ends(lines: Sequence[PlottedLine], y: Scale) -> list[CurveEnd]:
    """Return where each curve ends; curves without a value have no end."""
    last = [
        (curve, [one.found.value for one in curve.points if one.found.value is not None])
        for curve in lines
    ]
    return [CurveEnd(curve.name, y(known[-1]), curve.colour) for curve, known in last if known]


def bottom(lines: Sequence[PlottedLine]) -> float:
    """Return where an axis may begin: at 0 but for differences, and for shares all near 1."""
    points = [one for curve in lines for one in curve.points if one.found.value is not None]
    ends = [one.found.value if one.found.low is None else one.found.low for one in points]
    lowest = min(
        [
            *(end for end in ends if end is not None),
            *(value for one in points for value in (*one.motes, *one.found.values)),
        ],
        default=0.0,
    )
    if lowest < 0:
        return -1.0 if lowest < -0.5 else -0.5
    return 0.0 if lowest < 0.55 else math.floor(lowest * 10 - 0.5) / 10


def _places(values: Sequence[Value], end: float) -> list[float]:
    """Return where the values stand: to scale where they are numbers in order, else evenly."""
    start = LEFT + 10
    even = Scale(start, end, 0.0, float(max(len(values) - 1, 1)))
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or len(numbers) < 2 or numbers != sorted(set(numbers)):
        return [even(float(k)) for k in range(len(values))]
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= WIDE_RATIO:
        numbers = [math.log(value) for value in numbers]
    to_scale = Scale(start, end, numbers[0], numbers[-1])
    return [to_scale(value) for value in numbers]


def _axes(
    axis: str, values: Sequence[Value], places: Sequence[float], y: Scale, end: float
) -> Markup:
    parts = []
    for value in y.ticks(4):
        style = "base" if value == 0 and y.low < 0 else "grid"
        parts.append(line(LEFT, y(value), end, y(value), style))
        shown = f"{100 * value:g} %".replace("-", "−")
        parts.append(text(LEFT - 6, y(value) + 4, shown, "axis", "end"))
    step = -(-len(values) // MAX_TICKS)
    room = (places[-1] - places[0]) / max(1, len(values) - 1) * step / 6 if len(values) > 1 else 20
    last = -math.inf
    for k in range(0, len(values), step):
        words = fitted(tick(values[k]), max(2.0, room))
        if places[k] - last < 4 + 6 * len(words):  # a logarithmic axis crowds its values
            continue
        parts.append(text(places[k], y.start + 15, words, "axis", "middle"))
        last = places[k]
    parts.append(text((LEFT + end) / 2, y.start + 30, plain(axis, 60), "axis", "middle"))
    return Markup("").join(parts)


def tick(value: Value) -> str:
    """Return a value of an axis as text."""
    return f"{value:g}" if isinstance(value, float) else plain(value, 40)


def _line(curve: PlottedLine, places: Sequence[float], y: Scale, k: int, lines: int) -> Markup:
    shift = 5.0 * (k - (lines - 1) / 2) if lines <= 4 else 0.0
    points = [one for one in curve.points if one.found.value is not None]
    spots = [(places[one.x], y(one.found.value or 0.0)) for one in points]
    marks = [element("circle", cx=x, cy=height, r=2.8, class_="filled") for x, height in spots]
    path = " ".join(f"{x:.1f},{height:.1f}" for x, height in spots)
    return element(
        "g",
        element("title", _words(curve)),
        *_ribbons(points, places, y),
        *_dots([(one.x, one.motes) for one in points], places, y, shift, "mote"),
        *_dots([(one.x, one.found.values) for one in points], places, y, shift, "seed"),
        element("polyline", points=path, class_="curve"),
        *marks,
        class_=curve.colour,
    )


def _ribbons(points: Sequence[Point], places: Sequence[float], y: Scale) -> list[Markup]:
    """Return a band for each run of points with an interval: none crosses a point without."""
    runs: list[list[Point]] = [[]]
    for one in points:
        if one.found.low is None or one.found.high is None:
            runs.append([])
        else:
            runs[-1].append(one)
    return [_ribbon(run, places, y) for run in runs if run]


def _ribbon(known: Sequence[Point], places: Sequence[float], y: Scale) -> Markup:
    if len(known) == 1:
        one, x = known[0].found, places[known[0].x]
        return line(x, y(one.low or 0.0), x, y(one.high or 0.0), "whisker")
    above = [f"{places[one.x]:.1f},{y(one.found.high or 0.0):.1f}" for one in known]
    below = [f"{places[one.x]:.1f},{y(one.found.low or 0.0):.1f}" for one in reversed(known)]
    return element("polygon", points=" ".join(above + below), class_="ribbon")


def _dots(
    found: Sequence[tuple[int, Sequence[float]]],
    places: Sequence[float],
    y: Scale,
    shift: float,
    style: str,
) -> list[Markup]:
    step = -(-sum(len(values) for _, values in found) // MAX_MOTES) or 1
    radius = 2.6 if style == "seed" else 1.7
    return [
        element("circle", cx=places[x] + shift, cy=y(value), r=radius, class_=style)
        for x, values in found
        for value in values[::step]
    ]


def _words(curve: PlottedLine) -> str:
    parts = []
    for one in curve.points[:20]:
        reach = f" ({reach_words(one.found)})" if one.found.n > 1 else ""
        parts.append(f"{percent(one.found.value)}{reach}")
    return f"{plain(curve.name)}: " + ", ".join(parts)
