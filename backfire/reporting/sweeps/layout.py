"""What of a sweep is drawn where: which axis becomes curves, panels, rows and columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from backfire.evidence.learnt import tells_of_attacks
from backfire.evidence.places import DEFENDER
from backfire.evidence.published.sweep_table import SweepTable, spot_key
from backfire.evidence.series import Series, Setting

MAX_LINES = 6
MAX_PANELS = 24
COLOURS = ("c1", "c0", "c2", "c3", "c4", "c5")


def value_of(series: Series, name: str) -> Setting:
    """Return where a series stands on an axis, the defender being one."""
    return series.defender if name == DEFENDER else series.at[name]


def same(one: Setting, other: Setting) -> bool:
    """Return whether two settings are the same; true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def numeric(values: Sequence[Setting]) -> bool:
    """Return whether an axis has two numbers at least, and nothing else."""
    return len(values) > 1 and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def line_axis(table: SweepTable, taken: Sequence[str]) -> str | None:
    """Return what becomes the curves of a chart: the defenders, else an axis of few values."""
    if 1 < len(table.defenders) <= MAX_LINES:
        return DEFENDER
    for name, values in table.axes.items():
        if name not in taken and 1 < len(values) <= MAX_LINES:
            return name
    return None


@dataclass(frozen=True)
class Panel:
    """Series that share a chart.

    Attributes:
        at: What they have in common, of what varies in the sweep.
        series: The series.
    """

    at: Mapping[str, Setting]
    series: Sequence[Series]

    @property
    def title(self) -> str:
        """What they have in common, in words."""
        return ", ".join(
            str(value) if name == DEFENDER else f"{name} {value}" for name, value in self.at.items()
        )


def panels(table: SweepTable, score: str, inside: Sequence[str]) -> Iterator[Panel]:
    """Yield the series of a score by what is not drawn inside a panel, without void cells.

    Args:
        table: The sweep.
        score: The score.
        inside: Axes (or the defender) that vary within a panel.
    """
    shared = [name for name, values in table.axes.items() if len(values) > 1]
    shared += [DEFENDER] if len(table.defenders) > 1 else []
    outside = [name for name in shared if name not in inside]
    found: dict[tuple[object, ...], list[Series]] = {}
    void = table.void if tells_of_attacks(score) else frozenset()
    for series in table.series(score):
        if spot_key(series.at, series.defender) in void:
            continue
        key = tuple((isinstance(v := value_of(series, name), bool), v) for name in outside)
        found.setdefault(key, []).append(series)
    for members in found.values():
        yield Panel({name: value_of(members[0], name) for name in outside}, members)
