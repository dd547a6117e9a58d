"""Draws figures with Matplotlib, the extra ``figures``: the same figure gives the same bytes.

A figure is one column wide and uses no settings but those of this file. Fonts are embedded as
outlines or TrueType, so that text stays sharp and a printer takes it. Curves differ in colour, line
and marker, in colours that people of every colour vision can tell apart.

Sources:
    Colours: M. Okabe, K. Ito, "Color universal design" (2008).
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from backfire.exporting.figures import ExportFigure, FigureCurve, FigureMark, FigureRow
from backfire.reporting.charts.names import apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

Format = Literal["pdf", "svg", "png"]
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
WIDTH: Final = 3.4  # inches, a column of most papers
_DPI: Final = 600
_MARKERS: Final = ("o", "D", "s", "^", "v", "P")
_DASHES: Final = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)))
_FONT: Final = "DejaVu Sans"  # comes with Matplotlib, so that every machine has it
_SIZE: Final = 7.0  # points
_FEW_TICKS: Final = 6
_SETTINGS: Final[dict[str, Any]] = {
    "font.family": _FONT,
    "font.size": _SIZE,
    "axes.labelsize": _SIZE,
    "xtick.labelsize": _SIZE - 0.5,
    "ytick.labelsize": _SIZE - 0.5,
    "legend.fontsize": _SIZE - 0.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "pdf.fonttype": 42,  # TrueType; many publishers refuse Type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "backfire",
    "text.parse_math": False,  # names are foreign text
}


class FiguresMissingError(RuntimeError):
    """The extra ``figures`` is not installed."""


def need_figures() -> None:
    """Check that Matplotlib is installed.

    Raises:
        FiguresMissingError: If it is not; says how to install it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise FiguresMissingError(
            "--figure needs Matplotlib: install it with  pip install 'backfire[figures]'  "
            "(in a clone: pip install -e '.[figures]'), or export tables only"
        )


def draw(figure: ExportFigure, form: Format) -> bytes:
    """Return a figure as a file; its caption stands in the file's metadata.

    Args:
        figure: What to show.
        form: ``pdf``, ``svg`` or ``png``.

    Raises:
        FiguresMissingError: If Matplotlib is not installed.
    """
    need_figures()
    with _settings():
        drawn = _dot_plot(figure) if figure.rows else _curve_plot(figure)
        out = io.BytesIO()
        drawn.savefig(out, format=form, dpi=_DPI, metadata=_metadata(figure, form))
    return out.getvalue()


@contextmanager
def _settings() -> Iterator[None]:
    """Take no settings of the user's, and leave them as they are."""
    from matplotlib import style

    with style.context(["default", _SETTINGS]):
        yield


def _metadata(figure: ExportFigure, form: Format) -> Mapping[str, str | None]:
    """Return what stands in the file beside the picture: no date, as it would change the bytes."""
    if form == "pdf":
        return {
            "Title": figure.name,
            "Subject": figure.caption,
            "Creator": "Backfire",
            "CreationDate": None,
        }
    said = {"Title": figure.name, "Description": figure.caption}
    return said | ({"Software": "Backfire"} if form == "png" else {"Date": None})


def _shown(text: str) -> str:
    r"""Return foreign text with letters that the font does not have as ``\u30e2``."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(_FONT))
    return "".join(c if font.get_char_index(ord(c)) else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def _new(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _dot_plot(figure: ExportFigure) -> Figure:
    names = list(dict.fromkeys(mark.name for row in figure.rows for mark in row.marks))
    drawn, axes = _new(0.55 + 0.17 * len(figure.rows) + 0.1 * (len(names) > 1))
    for y, row in enumerate(figure.rows):
        for mark in row.marks:
            _mark(axes, mark, y, names)
    axes.set_yticks(range(len(figure.rows)), [_shown(row.label) for row in figure.rows])
    for tick, row in zip(axes.get_yticklabels(), figure.rows, strict=True):
        tick.set_fontweight("normal" if row.marks else "bold")
    axes.set_ylim(len(figure.rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(*_ends([m for row in figure.rows for m in _reach(row)]))
    axes.set_xlabel(figure.axis)
    axes.grid(axis="x")
    if len(names) > 1:
        _legend(drawn, axes, names)
    return drawn


def _reach(row: FigureRow) -> Iterator[float]:
    for mark in row.marks:
        yield from (100 * end for end in (mark.value, mark.low, mark.high) if end is not None)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis in per cent: from 0, but for values all near 100 or below 0."""
    low = min(values, default=0.0)
    start = 10 * math.floor(low / 10 - 0.2) if low < 0 or low > 55 else 0.0
    return start - 2.0, 102.0


def _mark(axes: Axes, mark: FigureMark, y: float, names: Sequence[str]) -> None:
    if mark.value is None:
        return
    k = names.index(mark.name)
    lane = y + 0.24 * (k - (len(names) - 1) / 2)
    axes.errorbar(
        [100 * mark.value],
        [lane],
        xerr=_bars([mark.value], [mark.low], [mark.high]),
        fmt=_MARKERS[k % len(_MARKERS)],
        color=COLOURS[k % len(COLOURS)],
        elinewidth=0.8,
        label=mark.name,
    )


def _bars(
    y: Sequence[float | None], low: Sequence[float | None], high: Sequence[float | None]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the lengths of bars below and above, float64 (2, n), in points; 0 for none."""
    pairs = [
        (0.0, 0.0) if v is None or lo is None or hi is None else (100 * (v - lo), 100 * (hi - v))
        for v, lo, hi in zip(y, low, high, strict=True)
    ]
    return np.maximum(np.array(pairs, dtype=np.float64).reshape(-1, 2).T, 0.0)


def _legend(drawn: Figure, axes: Axes, names: Sequence[str]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    first = {label: handle for handle, label in zip(handles, labels, strict=True)}
    drawn.legend(
        [first[name] for name in names],
        list(names),
        loc="outside upper center",
        ncols=len(names),
        frameon=False,
        handletextpad=0.3,
    )


def _curve_plot(figure: ExportFigure) -> Figure:
    drawn, axes = _new(2.2)
    curves = [curve for curve in figure.curves if any(y is not None for y in curve.y)]
    for k, curve in enumerate(curves):
        _curve(axes, curve, k, 1.5 * (k - (len(curves) - 1) / 2))
    places = sorted({x for curve in curves for x in curve.x})
    _reach_across(axes, places, log=figure.log)
    if figure.ticks:
        axes.set_xticks([at for at, _ in figure.ticks], [_shown(name) for _, name in figure.ticks])
    axes.set_ylim(*_ends([y for curve in curves for y in _heights(curve)]))
    axes.set_xlabel(_shown(figure.across))
    axes.set_ylabel(_shown(figure.axis))
    axes.grid(axis="y")
    _names(axes, curves)
    return drawn


def _reach_across(axes: Axes, values: Sequence[float], *, log: bool) -> None:
    """Let the horizontal axis hold all values, and name each where they are few."""
    from matplotlib.ticker import NullLocator

    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if len(values) <= _FEW_TICKS:
        axes.set_xticks(values, [f"{value:g}" for value in values])
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low < high and not log:
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    elif low < high:
        axes.set_xlim(low / (high / low) ** 0.04, high * (high / low) ** 0.04)


def _heights(curve: FigureCurve) -> Iterator[float]:
    yield from (100 * end for end in (*curve.y, *curve.low, *curve.high) if end is not None)


def _beside(axes: Axes, shift: float) -> Transform:
    """Return the axes' own coordinates, moved to the right by `shift` points."""
    from matplotlib.transforms import ScaledTranslation

    inches = axes.figure.dpi_scale_trans
    return axes.transData + ScaledTranslation(shift / 72, 0, inches)


def _curve(axes: Axes, curve: FigureCurve, k: int, shift: float) -> None:
    """Draw a curve, moved aside by `shift` points so that bars do not hide each other."""
    known = [i for i, y in enumerate(curve.y) if y is not None]
    x = [curve.x[i] for i in known]
    y = [curve.y[i] for i in known]
    bars = _bars(y, [curve.low[i] for i in known], [curve.high[i] for i in known])
    axes.errorbar(
        x,
        [100 * (value or 0.0) for value in y],
        yerr=bars,
        color="#444444" if curve.dashed else COLOURS[k % len(COLOURS)],
        linestyle="--" if curve.dashed else _DASHES[k % len(_DASHES)],
        marker=_MARKERS[k % len(_MARKERS)],
        elinewidth=0.6,
        capsize=1.2,
        transform=_beside(axes, shift),
    )


def _names(axes: Axes, curves: Sequence[FigureCurve]) -> None:
    """Write each curve's name behind its end, none over another."""
    if len(curves) < 2:
        return
    low, high = axes.get_ylim()
    ends = [100 * next(y for y in reversed(curve.y) if y is not None) for curve in curves]
    gap = (high - low) * 0.062
    for k, (curve, at) in enumerate(zip(curves, apart(ends, gap, low, high), strict=True)):
        axes.annotate(
            _shown(curve.name),
            (1.0, at),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color="#444444" if curve.dashed else COLOURS[k % len(COLOURS)],
            annotation_clip=False,
        )
