"""The payoff matrix of attackers against defenders, from a sweep.

Source: S0, "Backdoors stuck at the frontdoor", Eq. 1 (an attacker's payoff is the share of its
triggered inputs that are predicted as its target), Eq. 2 (the defender's is 1 minus the mean over
the attackers) and appendix A.1.1 with Eq. 3 (equilibria; the game is zero-sum). S0 counts inputs
whose true label is the target already (`asr_all`); any other score can stand in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backfire.evidence.estimates import Estimate, estimate
from backfire.evidence.series import Series, SeriesRow, Setting, bounds_of, collect
from scenarios.sweep.published import ALL_ATTACKERS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Payoffs:
    """Attacker strategies (rows) against defender strategies (columns) at one place of a sweep.

    Attributes:
        at: The axes that are no attacker strategy, with their values at this place.
        score: The score that is the attackers' payoff.
        attackers: Names of the attacker strategies.
        choices: For each of them the axes that make it, with their values.
        defenders: Names of the defender strategies.
        seeds: Seeds for which the whole matrix is there; only these count.
        by_seed: The collective payoff of the attackers, float64 (seeds, attackers, defenders).
        stds: Its standard deviation across agents, float64 (attackers, defenders), NaN where a
            game has fewer than two attackers.
        missing: Attacker strategies that were left out: not one seed has them against every
            defender.
    """

    at: Mapping[str, Setting]
    score: str
    attackers: tuple[str, ...]
    choices: tuple[Mapping[str, Setting], ...]
    defenders: tuple[str, ...]
    seeds: tuple[int, ...]
    by_seed: Floats
    stds: Floats
    missing: tuple[str, ...] = ()

    @property
    def attacker(self) -> Floats:
        """Eq. 1, mean over attackers and seeds: float64 (attackers, defenders)."""
        return np.asarray(self.by_seed.mean(axis=0))

    @property
    def defender(self) -> Floats:
        """Eq. 2: 1 minus the attackers' payoff, float64 (attackers, defenders)."""
        return 1 - self.attacker

    def estimate(self, attacker: int, defender: int) -> Estimate:
        """Return the attackers' payoff in one cell with its interval over seeds."""
        return estimate(self.by_seed[:, attacker, defender].tolist(), bounds=bounds_of(self.score))

    def best_attack(self, defender: int) -> int:
        """Return the row of highest payoff: the equilibrium among attackers alone (A.1.1).

        Args:
            defender: Column of the defender, who does not move.
        """
        return int(self.attacker[:, defender].argmax())


def payoff_tables(
    rows: Iterable[SeriesRow],
    attacker: Sequence[str],
    score: str = "asr_all",
    group: str = ALL_ATTACKERS,
) -> list[Payoffs]:
    """Return the payoff matrix at each value of the axes that are no attacker strategy.

    Args:
        rows: Lines of the long table.
        attacker: Axes whose combinations are the attacker strategies.
        score: The attackers' payoff.
        group: Whose mean it is.

    Raises:
        ValueError: If `attacker` names no axis, or the table has no such score.
    """
    series = collect(rows, score, where={"group": group})
    if not series:
        raise ValueError(f"expected scores {score!r} of the group {group!r}, found none")
    if unknown := [name for name in attacker if name not in series[0].at]:
        raise ValueError(f"expected axes among {', '.join(series[0].at)}, got {unknown[0]!r}")
    places: dict[tuple[tuple[str, Setting], ...], list[Series]] = {}
    for one in series:
        rest = tuple((name, value) for name, value in one.at.items() if name not in attacker)
        places.setdefault(rest, []).append(one)
    return [_table(dict(rest), found, attacker, score) for rest, found in places.items()]


def _table(
    at: dict[str, Setting], series: Sequence[Series], axes: Sequence[str], score: str
) -> Payoffs:
    cells = {(tuple(one.at[name] for name in axes), one.defender): one for one in series}
    strategies = list(dict.fromkeys(strategy for strategy, _ in cells))
    defenders = tuple(dict.fromkeys(defender for _, defender in cells))
    common = {
        strategy: _common_seeds(cells.get((strategy, name)) for name in defenders)
        for strategy in strategies
    }
    kept = [strategy for strategy in strategies if common[strategy]]
    seeds = tuple(
        sorted(set.intersection(*(common[strategy] for strategy in kept)) if kept else ())
    )
    shape = (len(seeds), len(kept), len(defenders))
    grid = [[cells[strategy, name] for name in defenders] for strategy in kept]
    return Payoffs(
        at=at,
        score=score,
        attackers=tuple(_title(axes, strategy) for strategy in kept),
        choices=tuple(dict(zip(axes, strategy, strict=True)) for strategy in kept),
        defenders=defenders,
        seeds=seeds,
        by_seed=np.array(
            [[[one.values[seed] for one in line] for line in grid] for seed in seeds],
            dtype=np.float64,
        ).reshape(shape),
        stds=np.array(
            [[one.std_across_agents for one in line] for line in grid], dtype=np.float64
        ).reshape(shape[1:]),
        missing=tuple(_title(axes, one) for one in strategies if not common[one]),
    )


def _common_seeds(series: Iterable[Series | None]) -> set[int]:
    return set.intersection(*(set(one.values) if one else set() for one in series))


def _title(axes: Sequence[str], strategy: Sequence[Setting]) -> str:
    if len(axes) == 1:
        return str(strategy[0])
    return ", ".join(f"{name} {value}" for name, value in zip(axes, strategy, strict=True))
