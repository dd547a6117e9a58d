"""Points with intervals in both directions, each with a short label that covers no other point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.evidence.estimates import Estimate
from backfire.reporting.charts.intervals import symbol
from backfire.reporting.charts.svg import Scale, element, line, picture, text
from backfire.reporting.text import percent, plain

WIDTH, HEIGHT = 560.0, 300.0
LEFT, RIGHT, TOP = 48.0, WIDTH - 20.0, 30.0
# Half width and half height of a label of two figures.
_LABEL = (8.0, 7.0)
_AROUND = ((11, -9), (-11, -9), (11, 11), (-11, 11), (0, -14), (0, 16), (19, 1), (-19, 1))


@dataclass(frozen=True)
class ScatterPoint:
    """A point.

    Attributes:
        name: What it is, in words.
        label: What stands beside it: two characters at most.
        x: Along the lower axis.
        y: Along the left axis.
        shape: ``dot``, ``ring`` or ``diamond``.
        colour: A colour class.
    """

    name: str
    label: str
    x: Estimate
    y: Estimate
    shape: str = "dot"
    colour: str = "c1"


def scatter_chart(
    spots: Sequence[ScatterPoint],
    axes: tuple[str, str],
    label: str,
    limit: tuple[float, str] | None = None,
) -> Markup:
    """Return the chart; both axes are shares and end at 100 %.

    Args:
        spots: The first ones are drawn on top; those without a value are left out.
        axes: What the lower and the left axis show.
        label: For screen readers.
        limit: A value of the lower axis at which a line stands, and what it says.
    """
    known = [spot for spot in spots if spot.x.value is not None and spot.y.value is not None]
    x = Scale(LEFT, RIGHT, _start(known, limit), 1.0)
    y = Scale(HEIGHT, TOP, 0.0, 1.0)
    places = [(x(spot.x.value or 0.0), y(spot.y.value or 0.0)) for spot in known]
    drawn = [_spot(spot, x, y) for spot in reversed(known)]
    labels = [
        text(at_x, at_y + 4, spot.label, "value", "middle")
        for spot, (at_x, at_y) in zip(known, _beside(places), strict=True)
    ]
    border = [] if limit is None else _border(limit, x)
    return picture(HEIGHT + 40, label, _axes(axes, x, y), *border, *drawn, *labels, width=WIDTH)


def _start(spots: Sequence[ScatterPoint], limit: tuple[float, str] | None) -> float:
    """Return where the lower axis begins: a round share below everything."""
    ends = [spot.x.value if spot.x.low is None else spot.x.low for spot in spots]
    least = min([end for end in ends if end is not None] + ([limit[0]] if limit else []), default=0)
    return max(0.0, math.floor(least * 10 - 0.5) / 10)


def _axes(axes: tuple[str, str], x: Scale, y: Scale) -> Markup:
    parts = []
    for value in x.ticks():
        parts.append(line(x(value), TOP, x(value), HEIGHT, "grid"))
        parts.append(text(x(value), HEIGHT + 15, f"{100 * value:g} %", "axis", "middle"))
    for value in y.ticks():
        parts.append(line(LEFT, y(value), RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 6, y(value) + 4, f"{100 * value:g} %", "axis", "end"))
    parts.append(text((LEFT + RIGHT) / 2, HEIGHT + 32, plain(axes[0], 90), "axis", "middle"))
    parts.append(text(4, 12, plain(axes[1], 90), "axis"))
    return Markup("").join(parts)


def _border(limit: tuple[float, str], x: Scale) -> list[Markup]:
    at = x(limit[0])
    anchor, shift = ("end", -6) if at > (LEFT + RIGHT) / 2 else ("start", 6)
    return [
        element("line", x1=at, y1=TOP, x2=at, y2=HEIGHT, class_="base", stroke_dasharray="4 3"),
        text(at + shift, HEIGHT - 8, plain(limit[1], 60), "axis", anchor),
    ]


def _spot(spot: ScatterPoint, x: Scale, y: Scale) -> Markup:
    at_x, at_y = x(spot.x.value or 0.0), y(spot.y.value or 0.0)
    whole = f"{plain(spot.name, 200)}: {_words(spot.x)}, {_words(spot.y)}"
    parts = [element("title", whole)]
    if spot.x.low is not None and spot.x.high is not None:
        parts.append(line(x(spot.x.low), at_y, x(spot.x.high), at_y, "whisker"))
    if spot.y.low is not None and spot.y.high is not None:
        parts.append(line(at_x, y(spot.y.low), at_x, y(spot.y.high), "whisker"))
    return element("g", *parts, symbol(spot.shape, at_x, at_y), class_=spot.colour)


def _words(found: Estimate) -> str:
    ends = ""
    if found.low is not None and found.high is not None:
        ends = f" ({percent(found.low)} to {percent(found.high)})"
    return percent(found.value) + ends


def _beside(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where each label stands: the first place around its point that is free."""
    taken = list(places)
    labels = []
    for at_x, at_y in places:
        around = [(at_x + dx, at_y + dy) for dx, dy in _AROUND]
        free = [spot for spot in around if _free(spot, taken)]
        labels.append((free or around)[0])
        taken.append(labels[-1])
    return labels


def _free(spot: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    wide, high = _LABEL
    inside = LEFT < spot[0] < WIDTH and TOP < spot[1] < HEIGHT
    return inside and all(
        abs(spot[0] - x) >= 1.2 * wide or abs(spot[1] - y) >= 1.2 * high for x, y in taken
    )
