"""Names at the ends of curves, none over another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from backfire.reporting.charts.svg import element
from backfire.reporting.text import both_ends, plain

# Width in points that names need on the right, and their width in em.
ROOM: Final = 84.0
WIDEST: Final = 7.0
# As many names as can be read beside each other.
MOST_NAMES: Final = 10
_GAP: Final = 12.0


class CurveEnd(NamedTuple):
    """Where a curve ends.

    Attributes:
        name: Its name, foreign text.
        y: The height of its last point.
        colour: A colour class.
    """

    name: str
    y: float
    colour: str


def end_names(ends: Sequence[CurveEnd], x: float, top: float, bottom: float) -> Markup:
    """Return the names of curves, each as near the end of its curve as the others allow.

    Args:
        ends: At most `MOST_NAMES`; further ones are left out.
        x: Where the names begin.
        top: The highest place.
        bottom: The lowest.
    """
    ends = ends[:MOST_NAMES]
    places = apart([end.y for end in ends], _GAP, top, bottom)
    return Markup("").join(
        element(
            "text",
            element("title", plain(end.name)),
            both_ends(plain(end.name), WIDEST),
            x=x,
            y=y + 4,
            class_=f"name {end.colour}",
        )
        for end, y in zip(ends, places, strict=True)
    )


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near those wanted, in the same order, with `gap` between neighbours.

    Args:
        wanted: Positions, in any order.
        gap: Least distance; less where the range has no room.
        low: Lower end of the range.
        high: Upper end.
    """
    gap = min(gap, (high - low) / max(1, len(wanted)))
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    placed = [max(wanted[k], low) for k in order]
    for k in range(1, len(placed)):
        placed[k] = max(placed[k], placed[k - 1] + gap)
    top = high
    for k in reversed(range(len(placed))):
        placed[k] = min(placed[k], top)
        top = placed[k] - gap
    found = [0.0] * len(wanted)
    for k, at in zip(order, placed, strict=True):
        found[k] = at
    return found
