"""The equilibria of a payoff matrix, and how many resamples of the seeds they survive.

A payoff is a mean over a few seeds, and an equilibrium of means can rest on the third digit. So
everything found here carries the share of bootstrap resamples over seeds in which it is found
again: the seeds are drawn with replacement, whole matrices at a time, since the cells of a seed
belong together. Up to five seeds all resamples are gone through with their probabilities, so that
the share is exact; beyond that, 200 are drawn by a generator that is keyed by the payoffs. Such a
share describes the seeds at hand. It is no confidence: resamples of n seeds vary less than n new
seeds would (of five by a tenth in standard deviation), so that shares lie too near 0 or 1.

The value's interval is no bootstrap: percentiles over resamples of three to five seeds hold the
true value in 75 to 80 % of games, not in 95. To first order the value of a game moves as the payoff
of its own equilibrium mixes does, so the interval is that of this payoff over seeds.

Sources: S0, "Backdoors stuck at the frontdoor", Eq. 3 and Table 6; for the methods see
`zero_sum` and `dominance`. First order: H. D. Mills, "Marginal values of matrix games and linear
programs", in Linear Inequalities and Related Systems, Annals of Mathematics Studies 38 (1956)
183-194.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb, factorial, prod
from typing import Final, NamedTuple

import numpy as np

from backfire.evidence.estimates import ANYWHERE, Bounds, Estimate, estimate, generator_of
from backfire.evidence.payoffs.dominance import (
    Dominated,
    dominant_column,
    dominant_row,
    dominated_columns,
    dominated_rows,
    eliminate,
)
from backfire.evidence.payoffs.zero_sum import (
    Floats,
    Mixed,
    has_support,
    mixed_equilibrium,
    pure_equilibria,
)

DRAWN: Final = 200
Kept = tuple[tuple[int, ...], tuple[int, ...]]


class Pure(NamedTuple):
    """An equilibrium in pure strategies.

    Attributes:
        attacker: Row.
        defender: Column.
        value: What the attackers get there.
        share: Share of resamples in which this cell is an equilibrium; None with one seed.
    """

    attacker: int
    defender: int
    value: float
    share: float | None


class Never(NamedTuple):
    """A strategy that its player never needs.

    Attributes:
        strategy: Its index.
        strict: True for strictly, False for weakly dominated.
        by: Share of each strategy in the mix that dominates it.
        share: Share of resamples in which it is dominated so, or more strictly; None with one
            seed.
    """

    strategy: int
    strict: bool
    by: tuple[float, ...]
    share: float | None


class Dominant(NamedTuple):
    """A strategy that is best whatever the other does.

    Attributes:
        strategy: Its index.
        share: Share of resamples in which it is dominant; None with one seed.
    """

    strategy: int
    share: float | None


@dataclass(frozen=True)
class Equilibria:
    """What the players of a zero-sum game should do.

    Attributes:
        pure: Equilibria in pure strategies, row by row.
        mixed: One equilibrium in mixed strategies, with the value of the game.
        mixed_share: Share of resamples that have an equilibrium which plays the same strategies
            (in whatever proportion); None with one seed.
        value: The value of the game with its 95 % interval over seeds.
        dominated_attackers: Dominated rows.
        dominated_defenders: Dominated columns.
        dominant_attacker: The row that dominates all others, if there is one.
        dominant_defender: The column that dominates all others, if there is one.
        left: Rows and columns left by iterated elimination of strictly dominated strategies.
        left_share: Share of resamples in which exactly these are left; None with one seed.
        seeds: Number of seeds.
        resamples: Number of resamples that the shares are over; 0 with one seed.
    """

    pure: tuple[Pure, ...]
    mixed: Mixed
    mixed_share: float | None
    value: Estimate
    dominated_attackers: tuple[Never, ...]
    dominated_defenders: tuple[Never, ...]
    dominant_attacker: Dominant | None
    dominant_defender: Dominant | None
    left: Kept
    left_share: float | None
    seeds: int
    resamples: int


class _Resample(NamedTuple):
    weight: float
    matrix: Floats


def solve(by_seed: Floats, bounds: Bounds = ANYWHERE) -> Equilibria:
    """Solve the game whose payoffs are the means over seeds.

    Args:
        by_seed: What the attackers get and the defender loses (Eq. 2 as a zero-sum game), float
            (seeds, attackers, defenders); a single matrix (attackers, defenders) counts as one
            seed.
        bounds: Range of a payoff.

    Raises:
        ValueError: If there is no seed, no strategy, or a payoff that is not finite.
    """
    payoffs = np.asarray(by_seed, dtype=np.float64)
    payoffs = payoffs[None] if payoffs.ndim == 2 else payoffs
    if payoffs.ndim != 3 or payoffs.size == 0 or not np.isfinite(payoffs).all():
        raise ValueError(
            f"expected finite payoffs (seeds, attackers, defenders), got shape {payoffs.shape}"
        )
    matrix = payoffs.mean(axis=0)
    again = list(resamples(payoffs))
    mixed, left = mixed_equilibrium(matrix), eliminate(matrix)[:2]
    return Equilibria(
        pure=_pure(matrix, again),
        mixed=mixed,
        mixed_share=_share(again, lambda one: has_support(one, mixed.support)),
        value=value_over_seeds(payoffs, mixed, bounds),
        dominated_attackers=_never(matrix, again, dominated_rows),
        dominated_defenders=_never(matrix, again, dominated_columns),
        dominant_attacker=_dominant(matrix, again, dominant_row),
        dominant_defender=_dominant(matrix, again, dominant_column),
        left=left,
        left_share=_share(again, lambda one: eliminate(one)[:2] == left),
        seeds=len(payoffs),
        resamples=len(again),
    )


def resamples(payoffs: Floats) -> Iterator[_Resample]:
    """Yield mean matrices over seeds drawn with replacement, with their probabilities.

    All of them where there are at most 200 (up to five seeds), otherwise 200 draws; none for a
    single seed.

    Args:
        payoffs: Float64 (seeds, attackers, defenders).
    """
    n = len(payoffs)
    if n < 2:
        return
    if comb(2 * n - 1, n) <= DRAWN:
        for chosen in combinations_with_replacement(range(n), n):
            counts = np.bincount(chosen, minlength=n)
            ways = factorial(n) / prod(factorial(int(count)) for count in counts)
            yield _Resample(ways / n**n, np.tensordot(counts / n, payoffs, 1))
        return
    draws = generator_of(payoffs, "bootstrap of a game").integers(n, size=(DRAWN, n))
    for draw in draws:
        yield _Resample(1 / DRAWN, payoffs[np.sort(draw)].mean(axis=0))


def _share(again: list[_Resample], survives: Callable[[Floats], bool]) -> float | None:
    if not again:
        return None
    return min(1.0, float(sum(one.weight for one in again if survives(one.matrix))))


def _pure(matrix: Floats, again: list[_Resample]) -> tuple[Pure, ...]:
    saddles = pure_equilibria(matrix)
    weight = dict.fromkeys(saddles, 0.0)
    for one in again:
        for found in weight.keys() & set(pure_equilibria(one.matrix)):
            weight[found] += one.weight
    return tuple(
        Pure(*at, float(matrix[at]), min(1.0, weight[at]) if again else None) for at in saddles
    )


def _never(
    matrix: Floats,
    again: list[_Resample],
    dominated: Callable[[Floats, Sequence[int] | None], tuple[Dominated, ...]],
) -> tuple[Never, ...]:
    found = dominated(matrix, None)
    weight = {(one.strategy, strict): 0.0 for one in found for strict in (True, False)}
    for sample in again if found else ():
        for one in dominated(sample.matrix, [one.strategy for one in found]):
            if (one.strategy, one.strict) in weight:
                weight[one.strategy, one.strict] += sample.weight
    return tuple(
        Never(
            one.strategy,
            one.strict,
            tuple(float(share) for share in one.by),
            min(1.0, weight[one.strategy, True] + (not one.strict) * weight[one.strategy, False])
            if again
            else None,
        )
        for one in found
    )


def _dominant(
    matrix: Floats, again: list[_Resample], dominant: Callable[[Floats], int | None]
) -> Dominant | None:
    found = dominant(matrix)
    if found is None:
        return None
    return Dominant(found, _share(again, lambda one: dominant(one) == found))


def value_over_seeds(payoffs: Floats, mixed: Mixed, bounds: Bounds = ANYWHERE) -> Estimate:
    """Return the value of a game with its interval: what its mixes give, seed by seed.

    Args:
        payoffs: Float64 (seeds, attackers, defenders).
        mixed: The equilibrium of their mean.
        bounds: Range of a payoff.
    """
    values = np.einsum("i,sij,j->s", mixed.rows, payoffs, mixed.columns)
    return estimate(values.tolist(), bounds=bounds)
