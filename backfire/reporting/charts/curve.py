"""Training curves: losses and accuracies over the epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from backfire.reporting.charts.names import ROOM, CurveEnd, end_names
from backfire.reporting.charts.svg import WIDTH, Scale, element, line, picture, text
from backfire.reporting.text import number, plain
from server.referee.results import Curve

HEIGHT = 160.0
LEFT = 44.0
MAX_POINTS = 200
MAX_CURVES = 12
MAX_KEYS = 4


def curve_chart(curves: Sequence[Curve], word: str, label: str) -> Markup | None:
    """Return the figures whose name holds `word`, or None where there are none.

    Training figures are solid, validation figures dashed; models share a panel.

    Args:
        curves: One for each model.
        word: ``loss`` or ``accuracy``.
        label: For screen readers.
    """
    series = [
        (curve.name, key, [point.get(key, math.nan) for point in curve.points])
        for curve in curves[:MAX_CURVES]
        for key in _keys(curve, word)
    ]
    finite = [value for _, _, values in series for value in values if math.isfinite(value)]
    if not finite:
        return None
    epochs = max(len(values) for _, _, values in series)
    top = 1.0 if word == "accuracy" else max(max(finite), 1e-9)
    low = 0.0 if word != "accuracy" else min(0.0, min(finite))
    y = Scale(HEIGHT, 24.0, low, top)
    several = len(curves) > 1
    x = Scale(LEFT, WIDTH - (ROOM + 6 if several else 12), 1.0, float(max(epochs, 2)))
    drawn = [_line(name, key, values, x, y, k) for k, (name, key, values) in enumerate(series)]
    ends = [
        CurveEnd(name, y(found[-1]), "c0")
        for name, key, values in series
        if "validation" not in key and (found := [v for v in values if math.isfinite(v)])
    ]
    names = end_names(ends if several else [], x.end + 6, y.end, y.start)
    return picture(HEIGHT + 34, label, _axes(x, y, word), *drawn, names)


def _keys(curve: Curve, word: str) -> list[str]:
    keys = dict.fromkeys(key for point in curve.points for key in point if word in key)
    return list(keys)[:MAX_KEYS]


def _axes(x: Scale, y: Scale, word: str) -> Markup:
    parts = [text(4, 12, word, "heading")]
    for value in y.ticks(4):
        shown = f"{100 * value:g} %" if word == "accuracy" else f"{value:g}"
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 6, y(value) + 4, shown, "axis", "end"))
    parts += [
        text(x(value), y.start + 15, number(value), "axis", "middle")
        for value in x.ticks(6)
        if value == round(value)
    ]
    parts.append(text((x.start + x.end) / 2, y.start + 30, "epoch", "axis", "middle"))
    return Markup("").join(parts)


def _line(name: str, key: str, values: list[float], x: Scale, y: Scale, k: int) -> Markup:
    step = -(-len(values) // MAX_POINTS)
    kept = [e for e in range(len(values)) if e % step == 0 or e == len(values) - 1]
    points = [f"{x(e + 1.0):.1f},{y(values[e]):.1f}" for e in kept if math.isfinite(values[e])]
    last = next((v for v in reversed(values) if math.isfinite(v)), math.nan)
    words = f"{plain(name)}, {plain(key)}: {number(last)} at the end"
    style = "curve validation" if "validation" in key else "curve"
    return element(
        "polyline",
        element("title", words),
        points=" ".join(points),
        class_=f"{style} c{1 if 'validation' in key else 0}",
        opacity=1.0 if k < 2 else 0.45,
    )
