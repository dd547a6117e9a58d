"""What a figure for a paper shows, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Number = float | None


@dataclass(frozen=True)
class FigureMark:
    """A score with its interval, in a row of a dot plot.

    Attributes:
        name: What it is; marks of one name share a colour and a shape.
        value: A share or a difference of shares; None where it was not scored.
        low: Lower end of the interval; None where there is none.
        high: Upper end.
    """

    name: str
    value: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class FigureRow:
    """A row of a dot plot; without marks it is a heading."""

    label: str
    marks: tuple[FigureMark, ...] = ()


@dataclass(frozen=True)
class FigureCurve:
    """A curve, named at its end.

    Attributes:
        name: Its name.
        x: Where its points stand.
        y: Their values; None where there is none.
        low: Lower ends of their intervals; None where there is none.
        high: Upper ends.
        dashed: Whether it is drawn dashed, as what the others are set beside.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    dashed: bool = False


@dataclass(frozen=True)
class ExportFigure:
    """A figure of one column's width.

    Attributes:
        name: Of its file, without the ending: small letters, digits, hyphens.
        caption: What it shows, and what its bars and bands mean.
        axis: What its values are, in per cent.
        across: What its curves run along; "" for a dot plot.
        rows: Of a dot plot, from top to bottom.
        curves: Of any other.
        ticks: Positions on the horizontal axis and their names; none for an axis of numbers.
        log: Whether the horizontal axis is logarithmic.
    """

    name: str
    caption: str
    axis: str
    across: str = ""
    rows: Sequence[FigureRow] = ()
    curves: Sequence[FigureCurve] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = False
