"""A score over two axes of a sweep as a grid of colours, each cell with its number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from backfire.evidence.estimates import Estimate
from backfire.evidence.words import reach_words
from backfire.reporting.charts.heatmap import raster
from backfire.reporting.charts.series import Value, tick
from backfire.reporting.charts.svg import WIDTH, element, picture, text
from backfire.reporting.text import fitted, percent, plain

LEFT = 66.0
MOST = 40
NUMBERED = 14
ROW = 30.0


def grid_chart(
    found: Sequence[Sequence[Estimate | None]],
    down: tuple[str, Sequence[Value]],
    across: tuple[str, Sequence[Value]],
    label: str,
) -> Markup:
    """Return the grid; grey cells were not played.

    Args:
        found: Means by row and column; None where there is none. At most 40 x 40 are drawn.
        down: Name and values of the axis of the rows.
        across: Name and values of the axis of the columns.
        label: For screen readers.
    """
    rows, columns = down[1][:MOST], across[1][:MOST]
    width = (WIDTH - LEFT - 6) / len(columns)
    height = ROW if len(rows) <= 10 else 300.0 / len(rows)
    values = np.array(
        [[_value(found[i][j]) for j in range(len(columns))] for i in range(len(rows))]
    )
    top = 18.0
    cells = raster(values, (LEFT, top), (width * len(columns), height * len(rows)))
    names = [
        *_names(rows, [top + (i + 0.5) * height + 3.5 for i in range(len(rows))]),
        *_heads(columns, width, top + height * len(rows) + 13),
        text(LEFT - 5, 11, fitted(plain(down[0]), 11), "axis", "end"),
        text(
            (LEFT + WIDTH) / 2,
            top + height * len(rows) + 28,
            plain(across[0], 60),
            "axis",
            "middle",
        ),
    ]
    numbers = []
    if len(columns) <= NUMBERED and height >= 12:
        numbers = [
            _number(found[i][j], LEFT + (j + 0.5) * width, top + (i + 0.5) * height + 3.5)
            for i in range(len(rows))
            for j in range(len(columns))
        ]
    return picture(top + height * len(rows) + 34, label, cells, *names, *numbers)


def _value(one: Estimate | None) -> float:
    return float("nan") if one is None or one.value is None else one.value


def _names(values: Sequence[Value], places: Sequence[float]) -> list[Markup]:
    step = -(-len(values) // 20)
    return [
        text(LEFT - 5, places[k], fitted(tick(values[k]), 10), "axis", "end")
        for k in range(0, len(values), step)
    ]


def _heads(values: Sequence[Value], width: float, y: float) -> list[Markup]:
    step = max(1, round(24 / width + 0.49))
    return [
        text(
            LEFT + (k + 0.5) * width,
            y,
            fitted(tick(values[k]), max(2.0, width * step / 6)),
            "axis",
            "middle",
        )
        for k in range(0, len(values), step)
    ]


def _number(one: Estimate | None, x: float, y: float) -> Markup:
    if one is None or one.value is None:
        return element("text", "–", x=x, y=y, text_anchor="middle", class_="cell dark")
    words = f"{percent(one.value)}, n = {one.n}"
    if one.n > 1:
        words += f", 95 % interval over seeds: {reach_words(one)}"
    return element(
        "text",
        element("title", words),
        f"{100 * one.value:.0f}",
        x=x,
        y=y,
        text_anchor="middle",
        class_="cell dark" if one.value > 0.6 else "cell",
    )
