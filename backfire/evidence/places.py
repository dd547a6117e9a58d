"""Places of a sweep's table: which series a line of a `published:` block means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from backfire.evidence.series import Series, SeriesRow, Setting, collect
from scenarios.sweep.published import ALL_ATTACKERS, Operand, PublishedCell, fits

DEFENDER = "defender"
MAX_PAIRS = 5000

_Key = tuple[tuple[str, bool, Setting], ...]


@dataclass(frozen=True)
class DefendedCell:
    """A cell of a sweep (its seeds together) and a defender.

    Attributes:
        at: The value of every axis.
        defender: The defender.
    """

    at: Mapping[str, Setting]
    defender: str

    def value(self, name: str) -> Setting:
        """Return the value of an axis, the defender being one."""
        return self.defender if name == DEFENDER else self.at[name]


class Places:
    """The table of a sweep, by place.

    Args:
        rows: Lines of the long table.
        together: Groups of axes that go from value to value together: naming one of them names
            all.
    """

    def __init__(self, rows: Iterable[SeriesRow], together: Sequence[Sequence[str]] = ()) -> None:
        self.rows = tuple(rows)
        self.together = tuple(map(tuple, together))
        self._series: dict[str, dict[tuple[_Key, str, str], Series]] = {}

    @cached_property
    def spots(self) -> tuple[DefendedCell, ...]:
        """Every cell with every defender that was scored there, in the table's order."""
        found: dict[tuple[_Key, str], DefendedCell] = {}
        for row in self.rows:
            found.setdefault((_key(row.at), row.defender), DefendedCell(row.at, row.defender))
        return tuple(found.values())

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """The scores of the table."""
        return tuple(dict.fromkeys(row.score for row in self.rows))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were played."""
        return tuple(sorted({row.seed for row in self.rows}))

    def axes(self) -> dict[str, list[Setting]]:
        """Return the values that each axis has in the table, in order."""
        out: dict[str, dict[tuple[bool, Setting], Setting]] = {}
        for spot in self.spots:
            for axis, value in spot.at.items():
                out.setdefault(axis, {}).setdefault((isinstance(value, bool), value), value)
        return {axis: list(values.values()) for axis, values in out.items()}

    def defenders(self) -> list[str]:
        """Return the defenders, in order."""
        return list(dict.fromkeys(spot.defender for spot in self.spots))

    def series(self, spot: DefendedCell, group: str | None, score: str) -> Series | None:
        """Return a score at a spot, by seed; None where it was not scored.

        Args:
            spot: The spot.
            group: The group; None for all malicious agents where there is such a score, else for
                the defender's own.
            score: Its name.
        """
        if score not in self._series:
            self._series[score] = {
                (_key(one.at), one.defender, one.group): one for one in collect(self.rows, score)
            }
        groups = (ALL_ATTACKERS, "") if group is None else (group,)
        known = self._series[score]
        found = (known.get((_key(spot.at), spot.defender, name)) for name in groups)
        return next((one for one in found if one is not None), None)

    def matching(self, place: PublishedCell) -> list[DefendedCell]:
        """Return the spots that a place means."""
        return [
            spot
            for spot in self.spots
            if fits(place.at, spot.at) and place.defender in (None, spot.defender)
        ]

    def pairs(
        self, first: Operand, second: Operand
    ) -> Sequence[tuple[DefendedCell | None, DefendedCell | None]]:
        """Return the spots that a claim compares, None standing for a constant.

        What both sides leave out is the same on both; what one side alone leaves out takes every
        value but the one that the other side names.
        """
        if first.score is None:
            return [(None, spot) for spot in self.matching(second)][:MAX_PAIRS]
        if second.score is None:
            return [(spot, None) for spot in self.matching(first)][:MAX_PAIRS]
        one, two = self._named(first), self._named(second)
        free = [name for name in (*self.axes(), DEFENDER) if name not in one | two]
        lone = sorted(one ^ two)
        buckets: dict[_Key, list[DefendedCell]] = {}
        for spot in self.matching(second):
            buckets.setdefault(_at(spot, free), []).append(spot)
        found = [
            (spot, other)
            for spot in self.matching(first)
            for other in buckets.get(_at(spot, free), ())
            if all(_at(spot, [name]) != _at(other, [name]) for name in lone)
        ]
        return found[:MAX_PAIRS]

    def _named(self, side: Operand) -> set[str]:
        names = set(side.at)
        for group in self.together:
            if names & set(group):
                names |= set(group)
        return names | ({DEFENDER} if side.defender is not None else set())


def _at(spot: DefendedCell, names: Sequence[str]) -> _Key:
    return _key({name: spot.value(name) for name in names})


def _key(at: Mapping[str, Setting]) -> _Key:
    """Return a key that tells true from 1."""
    return tuple((name, isinstance(value, bool), value) for name, value in at.items())
