"""What a federated rule made of each agent, and of each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.svg import WIDTH, Scale, box, element, line, picture, text
from backfire.reporting.text import NAME, fitted, many, number, plain

LABEL = 100.0
NOTE = 62.0
STEP = 19.0
HEIGHT = 124.0
LEFT = 34.0
TOP = 26.0
MAX_BARS = 60
KINDS = ("caught", "missed", "lost", "kept")
WORDS = {
    "caught": "cheating, removed",
    "missed": "cheating, taken",
    "lost": "honest, removed",
    "kept": "honest, taken",
}


@dataclass(frozen=True)
class Bar:
    """Updates of one agent, group or span of rounds, by what the rule did.

    Attributes:
        name: Foreign text.
        parts: Number of updates, by `KINDS`.
    """

    name: str
    parts: Mapping[str, int]

    @property
    def removed(self) -> int:
        """Updates that the rule did not take."""
        return self.parts["caught"] + self.parts["lost"]

    @property
    def total(self) -> int:
        """All updates."""
        return sum(self.parts.values())

    @property
    def words(self) -> str:
        """The bar for screen readers and tool tips."""
        told = ", ".join(f"{self.parts[kind]} {WORDS[kind]}" for kind in KINDS if self.parts[kind])
        return f"{plain(self.name)}: {many(self.total, 'update')}: {told}"


def share_bars(bars: Sequence[Bar], label: str) -> Markup:
    """Return one row for each agent or group, all of one width: the shares of its updates."""
    scale = Scale(LABEL, WIDTH - NOTE)
    bottom = 4 + STEP * len(bars)
    return picture(bottom + 20, label, _shares_axis(scale, bottom), *_rows(bars, scale))


def _shares_axis(scale: Scale, bottom: float) -> Markup:
    marks = [
        text(scale(value), bottom + 14, f"{100 * value:g} %", "axis", "middle")
        for value in scale.ticks(4)
    ]
    return Markup("").join(marks)


def _rows(bars: Sequence[Bar], scale: Scale) -> list[Markup]:
    drawn = []
    for k, bar in enumerate(bars):
        y, x = 4 + STEP * k, scale.start
        parts = [element("title", bar.words)]
        for kind in KINDS:
            wide = (scale.end - scale.start) * bar.parts[kind] / max(bar.total, 1)
            if wide > 0:
                parts.append(box(x, y + 3, wide - min(1.0, wide / 2), STEP - 6, kind))
                x += wide
        parts.append(text(4, y + 14, fitted(plain(bar.name), NAME), "label"))
        count = f"{number(bar.removed)} of {number(bar.total)}"
        parts.append(text(WIDTH - 2, y + 14, count, "value", "end"))
        drawn.append(element("g", *parts))
    return drawn


def round_bars(bars: Mapping[int, Bar], rounds: int, label: str) -> Markup:
    """Return stacked bars, a bar for each round or for several in a row where they are many.

    Args:
        bars: By round; rounds that were not judged are missing and leave a gap.
        rounds: Number of rounds of the game.
        label: For screen readers.
    """
    span = max(1, -(-rounds // MAX_BARS))
    merged: dict[int, Bar] = {}
    for at, bar in bars.items():
        first = (at - 1) // span
        old = merged.get(first, Bar("", dict.fromkeys(KINDS, 0)))
        sums = {kind: old.parts[kind] + bar.parts[kind] for kind in KINDS}
        named = f"round {at}" if span == 1 else f"rounds {first * span + 1} to {at}"
        merged[first] = Bar(named, sums)
    most = max((bar.total - bar.parts["kept"] for bar in merged.values()), default=0)
    x = Scale(LEFT, WIDTH - 8, 1.0, float(-(-rounds // span) * span + 1))
    y = Scale(HEIGHT, TOP, 0.0, float(max(most, 1)))
    wide = (x.end - x.start) / max(-(-rounds // span), 1)
    drawn = [_stack(bar, x(1.0 + at * span), wide, y) for at, bar in merged.items()]
    return picture(HEIGHT + 32, label, _axes(x, y, rounds, "updates", wide / span / 2), *drawn)


def _stack(bar: Bar, x: float, wide: float, y: Scale) -> Markup:
    parts, below = [element("title", bar.words)], 0
    for kind in KINDS[:3]:
        if bar.parts[kind]:
            top = y(float(below + bar.parts[kind]))
            gap = min(3.0, wide / 4)
            parts.append(box(x + gap / 2, top, wide - gap, y(float(below)) - top, kind))
            below += bar.parts[kind]
    return element("g", *parts)


def auroc_line(values: Mapping[int, float], rounds: int, label: str) -> Markup:
    """Return the AUROC of each round in which it is defined; 0.5 is chance."""
    x = Scale(LEFT, WIDTH - 8, 1.0, float(max(rounds, 2)))
    y = Scale(HEIGHT, TOP)
    points = " ".join(f"{x(float(at)):.1f},{y(value):.1f}" for at, value in values.items())
    chance = line(x.start, y(0.5), x.end, y(0.5), "base")
    dots = [
        element(
            "circle",
            element("title", f"round {at}: AUROC {value:.3f}"),
            cx=x(float(at)),
            cy=y(value),
            r=3.0,
            class_="filled c1",
        )
        for at, value in (values.items() if len(values) <= MAX_BARS else ())
    ]
    curve = element("polyline", points=points, class_="curve c1")
    return picture(HEIGHT + 32, label, _axes(x, y, rounds, "AUROC", 0.0), chance, curve, *dots)


def _axes(x: Scale, y: Scale, rounds: int, title: str, shift: float) -> Markup:
    parts = [text(4, 14, title, "heading")]
    for value in y.ticks(4):
        if title == "AUROC" or value == round(value):
            parts.append(line(x.start, y(value), x.end, y(value), "grid"))
            parts.append(text(x.start - 6, y(value) + 4, f"{value:g}", "axis", "end"))
    parts += [
        text(x(value) + shift, y.start + 14, number(value), "axis", "middle")
        for value in x.ticks(6)
        if value == round(value) and value <= rounds
    ]
    parts.append(text((x.start + x.end) / 2, y.start + 28, "round", "axis", "middle"))
    return Markup("").join(parts)


@dataclass(frozen=True)
class Weight:
    """Mean weight of an agent or group: 1 is like everybody.

    Attributes:
        name: Foreign text.
        mean: Over its updates.
        colour: Class.
    """

    name: str
    mean: float
    colour: str


def weight_bars(weights: Sequence[Weight], label: str) -> Markup:
    """Return one bar for each agent or group, with a line at 1."""
    most = max(1.2, *(weight.mean for weight in weights)) if weights else 1.2
    scale = Scale(LABEL, WIDTH - NOTE, 0.0, most)
    bottom = 4 + STEP * len(weights)
    drawn = [
        text(scale(tick), bottom + 14, f"{tick:g}", "axis", "middle") for tick in scale.ticks(4)
    ]
    for k, weight in enumerate(weights):
        y = 4 + STEP * k
        words = f"{plain(weight.name)}: mean weight {weight.mean:.3f}"
        parts = [
            element("title", words),
            box(scale.start, y + 3, scale(weight.mean) - scale.start, STEP - 6, "bar"),
        ]
        named = text(4, y + 14, fitted(plain(weight.name), NAME), "label")
        value = text(WIDTH - 2, y + 14, f"{weight.mean:.2f}", "value", "end")
        drawn.append(element("g", element("g", *parts, class_=weight.colour), named, value))
    drawn.append(line(scale(1.0), 2, scale(1.0), bottom + 2, "base"))
    return picture(bottom + 20, label, *drawn)
