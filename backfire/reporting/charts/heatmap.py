"""The cross-ASR matrix as a picture: rows are triggers, columns are targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from backfire.reporting.charts.svg import WIDTH, box, element, picture, text
from backfire.reporting.images import data_uri
from backfire.reporting.text import NAME, fitted, percent, plain
from server.referee.results import CrossASR

NUMBERED = 14
NAMED = 20
MAX_SIDE = 200
LABEL = 92.0

# Nine stops of a blue-to-yellow scale that reads the same to colour-blind eyes and in grey.
_STOPS = np.array(
    [
        (0, 34, 78),
        (26, 56, 111),
        (67, 78, 108),
        (97, 101, 111),
        (125, 124, 120),
        (155, 148, 118),
        (188, 174, 108),
        (222, 201, 88),
        (254, 232, 56),
    ],
    dtype=np.float64,
)
_UNKNOWN = (150, 150, 150)

Colours = NDArray[np.uint8]


def colours(values: NDArray[np.float64]) -> Colours:
    """Return the colours of shares, uint8 (..., 3); NaN is grey."""
    position = np.clip(np.nan_to_num(values), 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(position, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)]
    shown = np.stack(channels, axis=-1)
    shown[np.isnan(values)] = _UNKNOWN
    return np.asarray(shown.round(), dtype=np.uint8)


def raster(
    values: NDArray[np.float64], corner: tuple[float, float], size: tuple[float, float]
) -> Markup:
    """Return values as a picture of one pixel each, stretched.

    Args:
        values: Shares, float64 (rows, columns); NaN where there is none.
        corner: Left and top, in units of the drawing.
        size: Width and height.
    """
    return element(
        "image",
        href=data_uri(colours(values)),
        x=corner[0],
        y=corner[1],
        width=size[0],
        height=size[1],
        preserveAspectRatio="none",
        class_="pixels",
    )


def heat_map(cross: CrossASR, classes: Sequence[str], label: str) -> Markup:
    """Return the matrix; numbers are printed into the cells of a small one."""
    names = cross.agents[:MAX_SIDE]
    side = len(names)
    values = _values(cross, side)
    size = (WIDTH - LABEL - 8) / side
    top = 8.0
    cells = raster(values, (LABEL, top), (size * side, size * side))
    parts = [cells, *_diagonal(side, size, top), *_labels(cross, classes, size, top)]
    if side <= NUMBERED:
        parts += _numbers(values, cross, size, top)
    return picture(top + size * side + 34, label, *parts)


def _values(cross: CrossASR, side: int) -> NDArray[np.float64]:
    values = np.full((side, side), np.nan)
    for i, row in enumerate(cross.matrix[:side]):
        for j, value in enumerate(row[:side]):
            values[i, j] = np.nan if value is None else value
    return values


def _diagonal(side: int, size: float, top: float) -> list[Markup]:
    if side > NAMED:
        return []
    return [box(LABEL + k * size, top + k * size, size, size, "own") for k in range(side)]


def _labels(cross: CrossASR, classes: Sequence[str], size: float, top: float) -> list[Markup]:
    side = min(len(cross.agents), MAX_SIDE)
    step = -(-side // NAMED)
    parts = []
    for k in range(0, side, step):
        middle = (k + 0.5) * size
        name = fitted(plain(cross.agents[k]), NAME)
        parts.append(text(LABEL - 5, top + middle + 3.5, name, "axis", "end"))
        target = fitted(class_name(cross.targets[k], classes), max(1.2, size * step / 11))
        parts.append(text(LABEL + middle, top + size * side + 13, target, "axis", "middle"))
    below = "target label of each attacker, in the same order"
    parts.append(text(LABEL + size * side / 2, top + size * side + 28, below, "axis", "middle"))
    return parts


def _numbers(values: NDArray[np.float64], cross: CrossASR, size: float, top: float) -> list[Markup]:
    parts = []
    for (i, j), value in np.ndenumerate(values):
        words = (
            f"trigger of {plain(cross.agents[i])}, target of {plain(cross.agents[j])}: "
            f"{percent(None if np.isnan(value) else float(value))}"
        )
        shown = "–" if np.isnan(value) else f"{100 * value:.0f}"
        parts.append(
            element(
                "text",
                element("title", words),
                shown,
                x=LABEL + (j + 0.5) * size,
                y=top + (i + 0.5) * size + 3.5,
                text_anchor="middle",
                class_="cell dark" if value > 0.6 or np.isnan(value) else "cell",
            )
        )
    return parts


def scale_bar() -> Markup:
    """Return the colours from 0 to 100 %, as a legend."""
    shades = colours(np.linspace(0, 1, 64)[None])
    bar = element(
        "image",
        href=data_uri(shades),
        x=20.0,
        y=2.0,
        width=120.0,
        height=10.0,
        preserveAspectRatio="none",
    )
    ends = (text(14, 11, "0", "axis", "end"), text(146, 11, "100 %", "axis"))
    return element("svg", bar, *ends, viewBox="0 0 184 14", class_="scale", aria_hidden="true")


def class_name(label: int | None, classes: Sequence[str]) -> str:
    """Return the name of a class; the number itself where it has none."""
    if label is None:
        return "–"
    return plain(classes[label], 24) if 0 <= label < len(classes) else str(label)
