"""Inline SVG: elements whose every text and attribute is escaped, and horizontal axes.

Colours are classes of `style.css`, so that a chart follows the page into the dark and onto paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 340.0


def element(name: str, *children: str, **attributes: object) -> Markup:
    """Return one element.

    Args:
        name: Tag.
        children: Markup, or text, which is escaped.
        attributes: A trailing underscore is dropped, other underscores become hyphens; floats
            are rounded to a tenth; None is left out.
    """
    pairs = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(pairs), inside)


def _value(value: object) -> object:
    if not isinstance(value, float):
        return value
    text = f"{value if math.isfinite(value) else 0.0:.1f}"
    return text.removesuffix(".0")


def picture(height: float, label: str, *children: str, width: float = WIDTH) -> Markup:
    """Return a whole drawing, `label` being what a screen reader says."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        role="img",
        aria_label=label,
        class_="chart",
    )


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    """Return a line of text."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def box(x: float, y: float, width: float, height: float, class_: str, *children: str) -> Markup:
    """Return a rectangle; a negative size is none."""
    return element(
        "rect",
        *children,
        x=x,
        y=y,
        width=max(0.0, width),
        height=max(0.0, height),
        class_=class_,
    )


@dataclass(frozen=True)
class Scale:
    """Maps values to positions; values outside, or not finite, end at the edge.

    Attributes:
        start: Position of `low`.
        end: Position of `high`.
        low: Smallest value shown.
        high: Largest value shown.
    """

    start: float
    end: float
    low: float = 0.0
    high: float = 1.0

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        if math.isnan(value):
            return self.start
        span = self.high - self.low
        share = (min(max(value, self.low), self.high) - self.low) / span if span else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values, about as many as wanted."""
        span = self.high - self.low
        if not 1e-300 < span < math.inf:
            return [self.low]
        raw = span / wanted
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def percent_axis(scale: Scale, top: float, bottom: float) -> Markup:
    """Return grid lines from `top` to `bottom` with labels in per cent below."""
    marks = []
    for value in scale.ticks():
        x = scale(value)
        marks.append(line(x, top, x, bottom, "grid"))
        marks.append(text(x, bottom + 14, f"{100 * value:g}", "axis", "middle"))
    marks.append(text(scale.end + 16, bottom + 14, "%", "axis", "middle"))
    return Markup("").join(marks)
