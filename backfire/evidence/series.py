"""From the long table of a sweep to values by seed: what all of its statistics start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from backfire.evidence.estimates import ANYWHERE, Bounds, Estimate, estimate
from server.referee.registry import class_of

Setting = str | int | float | bool
# Columns that are no axes.
COLUMNS: Final = ("defender", "group", "agent")


class SeriesRow(Protocol):
    """A score of one game: what is read of a line of the long table."""

    @property
    def at(self) -> Mapping[str, Setting]:
        """The cell's place: the value of each axis."""

    @property
    def seed(self) -> int:
        """The game's seed."""

    @property
    def defender(self) -> str:
        """The defender's name."""

    @property
    def group(self) -> str:
        """The group of agents; "" for scores of the defender."""

    @property
    def agent(self) -> str:
        """The agent; "" for the mean over the group's agents."""

    @property
    def score(self) -> str:
        """The score's name."""

    @property
    def value(self) -> float | None:
        """The score; None where there was nothing to count."""

    @property
    def std(self) -> float | None:
        """Standard deviation across the group's agents; None below two."""

    @property
    def agents(self) -> int:
        """Number of agents behind the value."""


@dataclass(frozen=True)
class Series:
    """One score at one place of a sweep, by seed.

    Attributes:
        at: The axes that tell this series from others, with their values.
        defender: Its defender; "" where `collect` was asked not to tell defenders apart.
        group: Its group; "" for scores of the defender.
        agent: Its agent; "" for the mean over the group.
        score: The score's name.
        values: The score by seed, seeds in increasing order; seeds without a value are missing.
        stds: Standard deviation across agents by seed, where there are two agents or more.
        agents: Number of agents behind each value (the largest over the seeds).
    """

    at: Mapping[str, Setting]
    defender: str
    group: str
    agent: str
    score: str
    values: Mapping[int, float]
    stds: Mapping[int, float] = field(default_factory=dict)
    agents: int = 0

    @property
    def bounds(self) -> Bounds:
        """The range of this score."""
        return bounds_of(self.score)

    @cached_property
    def estimate(self) -> Estimate:
        """Mean and interval over seeds."""
        return estimate(list(self.values.values()), bounds=self.bounds)

    @property
    def std_across_agents(self) -> float | None:
        """Typical standard deviation across the agents of one game (root mean square over seeds).

        It says nothing of how sure the mean is. None where no game had two agents.
        """
        stds = np.array(list(self.stds.values()))
        return float(np.sqrt((stds**2).mean())) if len(stds) else None


def bounds_of(score: str) -> Bounds:
    """Return a score's range, by its name in the long table.

    Of a score whose class is not installed here nothing is known: it may be anything.
    """
    known = class_of(score)
    return ANYWHERE if known is None else known.bounds


def collect(
    rows: Iterable[SeriesRow],
    score: str,
    *,
    by: Sequence[str] | None = None,
    where: Mapping[str, Setting] | None = None,
    group: str | None = None,
    each_agent: bool = False,
) -> list[Series]:
    """Gather the values of one score by seed, in the order in which places first appear.

    Args:
        rows: Lines of the long table.
        score: The score.
        by: What tells series apart: names of axes, and of "defender", "group", "agent". None for
            all of them. Over what is left out the mean is taken *within each seed*, so that
            a series never has more values than there are seeds; a seed that lacks any of the
            values that another seed has is left out, as its mean would be of something else.
        where: Only rows at these values; of axes, and of "defender", "group", "agent".
        group: Only rows of this group ("" for the defender's own scores); None for all.
        each_agent: True for the lines of single agents, False for the means over groups.

    Raises:
        ValueError: If a name in `by` or `where` is neither axis nor column, or a line is there
            twice.
    """
    wanted = dict(where or {}) | ({} if group is None else {"group": group})
    chosen = [row for row in rows if row.score == score and bool(row.agent) == each_agent]
    _check_names(chosen, {*(by or ()), *wanted})
    chosen = [row for row in chosen if all(_of(row, name) == wanted[name] for name in wanted)]
    gathered: dict[tuple[tuple[str, Setting], ...], list[SeriesRow]] = {}
    for row in chosen:
        names = by if by is not None else (*row.at, *COLUMNS)
        gathered.setdefault(tuple((name, _of(row, name)) for name in names), []).append(row)
    return [_series(dict(key), score, found) for key, found in gathered.items()]


def _of(row: SeriesRow, name: str) -> Setting:
    if name in COLUMNS:
        return str(getattr(row, name))
    return row.at[name]


def _check_names(rows: Sequence[SeriesRow], names: Iterable[str]) -> None:
    for row in rows[:1]:
        known = (*row.at, *COLUMNS)
        for name in sorted(set(names) - set(known)):
            raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")


def _series(key: dict[str, Setting], score: str, rows: Sequence[SeriesRow]) -> Series:
    by_seed: dict[int, dict[tuple[object, ...], SeriesRow]] = {}
    for row in rows:
        place = (tuple(row.at.items()), row.defender, row.group, row.agent)
        if place in by_seed.setdefault(row.seed, {}):
            raise ValueError(f"expected each line once, got {place} with seed {row.seed} twice")
        if row.value is not None:
            by_seed[row.seed][place] = row
    places = {place for found in by_seed.values() for place in found}
    full = {s: list(by_seed[s].values()) for s in sorted(by_seed) if by_seed[s].keys() == places}
    values = {seed: _mean(row.value for row in lines) for seed, lines in full.items() if lines}
    stds = {seed: [row.std for row in lines if row.std is not None] for seed, lines in full.items()}
    return Series(
        at={name: value for name, value in key.items() if name not in COLUMNS},
        **{name: str(key.get(name, "")) for name in COLUMNS},
        score=score,
        values=values,
        stds={
            seed: float(np.sqrt(_mean(s**2 for s in found)))
            for seed, found in stds.items()
            if found
        },
        agents=max((row.agents for row in rows), default=0),
    )


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))
