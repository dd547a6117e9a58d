"""Is A better than B? Paired by seed, corrected for the number of questions, ties called ties.

Two games with the same seed share data, partition and triggers, so the difference is taken seed by
seed. The p-value is that of the paired t-test. The exact sign-flip test stands beside it; with
five seeds it cannot go below 2/32 = 0.0625 whatever is seen, so that it decides little. Where the
differences have no interval, since all are the same or they fall into two heaps, a t-test says
nothing either: the sign-flip test takes its place. "Better" needs both the corrected p-value and,
where there is one, the interval of the difference.

Sources:
    t: Student, "The probable error of a mean", Biometrika 6 (1908) 1-25.
    Sign flips: R. A. Fisher, "The Design of Experiments" (1935), section 21.
    Holm: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
        Journal of Statistics 6 (1979) 65-70.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from backfire.evidence.estimates import (
    GAP,
    SHARE,
    Bounds,
    Estimate,
    difference_bounds,
    estimate,
)

ALPHA: Final = 0.05
# Two equal differences by chance are common with shares of a few inputs.
MIN_SEEDS: Final = 3
# 2^16 flips at most; with more seeds the t-test needs no company.
_MOST_FLIPPED: Final = 16
_EQUAL: Final = 1e-12

Verdict = Literal["better", "worse", "tie"]
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class PairedComparison:
    """What the seeds say about ``first - second``.

    Attributes:
        first: Name of the one.
        second: Name of the other.
        difference: Mean over the common seeds with its 95 % interval.
        p: Two-sided p-value of the paired test (`paired_p`); None for fewer than two seeds.
        p_flip: Two-sided p-value of the exact sign-flip test; None for fewer than two or more
            than 16 seeds.
        p_holm: `p` corrected for all comparisons of the table.
        questions: Number of comparisons that it was corrected for.
        verdict: Of `first`. A tie says that these seeds do not tell the two apart, and not that
            they are equal.
    """

    first: str
    second: str
    difference: Estimate
    p: float | None
    p_flip: float | None
    p_holm: float | None
    questions: int
    verdict: Verdict


class Rank(NamedTuple):
    """A place in a ranking.

    Attributes:
        name: Whose place.
        rank: 1 + the number of those that are significantly better.
        estimate: Its mean with the 95 % interval.
        ties: Names of those that it cannot be told apart from, best first.
    """

    name: str
    rank: int
    estimate: Estimate
    ties: tuple[str, ...]

    @property
    def text(self) -> str:
        """The rank as shown, with "=" where it is shared, such as ``1=``."""
        return f"{self.rank}=" if self.ties else str(self.rank)


def compare(
    first: tuple[str, BySeed],
    second: tuple[str, BySeed],
    *,
    higher_is_better: bool = True,
    bounds: Bounds = GAP,
) -> PairedComparison:
    """Compare two scores over the seeds that both have; one question, nothing to correct.

    Args:
        first: Name, and score by seed.
        second: Name, and score by seed.
        higher_is_better: What counts as better.
        bounds: Range of the difference.
    """
    return compare_all([(first, second)], higher_is_better=higher_is_better, bounds=bounds)[0]


def compare_all(
    pairs: Sequence[tuple[tuple[str, BySeed], tuple[str, BySeed]]],
    *,
    higher_is_better: bool = True,
    bounds: Bounds = GAP,
) -> tuple[PairedComparison, ...]:
    """Make all comparisons of one table, with p-values corrected by Holm.

    Args:
        pairs: For each comparison both names with their scores by seed.
        higher_is_better: What counts as better.
        bounds: Range of the differences.
    """
    found = [_raw(first, second, bounds) for first, second in pairs]
    return corrected_together(found, higher_is_better=higher_is_better)


def corrected_together(
    found: Sequence[PairedComparison], *, higher_is_better: bool = True
) -> tuple[PairedComparison, ...]:
    """Return comparisons as the questions of one table, with p-values corrected by Holm.

    Args:
        found: Each asked by itself; their scores may have different ranges.
        higher_is_better: What counts as better.
    """
    corrected = holm([one.p for one in found])
    questions = sum(one.p is not None for one in found)
    return tuple(
        replace(
            one,
            p_holm=p,
            questions=questions,
            verdict=_verdict(one.difference, p, higher_is_better),
        )
        for one, p in zip(found, corrected, strict=True)
    )


def _raw(first: tuple[str, BySeed], second: tuple[str, BySeed], bounds: Bounds) -> PairedComparison:
    seeds = sorted(first[1].keys() & second[1].keys())
    differences = np.array([first[1][seed] - second[1][seed] for seed in seeds])
    found = estimate(differences.tolist(), bounds=bounds)
    p, p_flip = paired_p(differences, found), sign_flip(differences)
    return PairedComparison(first[0], second[0], found, p, p_flip, p, 1, "tie")


def _verdict(difference: Estimate, p: float | None, higher_is_better: bool) -> Verdict:
    if difference.value is None or difference.n < MIN_SEEDS or p is None:
        return "tie"
    if p >= ALPHA or difference.holds(0.0):
        return "tie"
    return "better" if (difference.value > 0) == higher_is_better else "worse"


def paired_p(differences: NDArray[np.float64], found: Estimate) -> float | None:
    """Return the two-sided p-value that their mean is 0; None for fewer than two differences.

    That of the paired t-test; where their spread says nothing, that of the sign-flip test: all
    are the same, or they fall into two heaps. Beyond 16 seeds heaps are left to the t-test.

    Args:
        differences: One for each seed, float (n,).
        found: The estimate of their mean, but for a constant.
    """
    if found.method == "equal":
        moved = abs(float(differences.mean())) > _EQUAL
        return float(2.0 ** (1 - len(differences))) if moved else 1.0
    flipped = sign_flip(differences) if found.method == "heaps" else None
    return paired_t(differences) if flipped is None else flipped


def paired_t(differences: NDArray[np.float64]) -> float | None:
    """Return the two-sided p-value of the paired t-test.

    None for fewer than two differences, and for differences that are all the same.

    Args:
        differences: One for each seed, float (n,).
    """
    n = len(differences)
    if n < 2 or float(np.ptp(differences)) <= _EQUAL:
        return None
    mean = abs(float(differences.mean()))
    t = mean * np.sqrt(n) / float(differences.std(ddof=1))
    return float(2 * stats.t.sf(t, n - 1))


def sign_flip(differences: NDArray[np.float64]) -> float | None:
    """Return the two-sided p-value over all 2^n signs; None for n < 2 or n > 16.

    Args:
        differences: One for each seed, float (n,).
    """
    n = len(differences)
    if not 2 <= n <= _MOST_FLIPPED:
        return None
    flips = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sums = np.abs((1 - 2 * flips) @ differences)
    return float(np.mean(sums >= sums[0] - _EQUAL * max(1.0, float(sums[0]))))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected by Holm's step-down; None stays None and is no question.

    Args:
        ps: P-values, 0..1.

    Raises:
        ValueError: If one lies outside 0..1.
    """
    asked = [(p, i) for i, p in enumerate(ps) if p is not None]
    if not all(0 <= p <= 1 for p, _ in asked):
        raise ValueError(f"expected p-values in 0..1, got {list(ps)}")
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for step, (p, i) in enumerate(sorted(asked)):
        largest = max(largest, min(1.0, (len(asked) - step) * p))
        corrected[i] = largest
    return corrected


def rank(
    entries: Mapping[str, BySeed], *, higher_is_better: bool = True, bounds: Bounds = SHARE
) -> tuple[Rank, ...]:
    """Rank scores; those that cannot be told apart are tied.

    Two are told apart where their own intervals do not overlap *and* the paired comparison,
    corrected for all pairs, decides. What has no interval reaches from its least seed to its
    largest. Ties do not chain: with A tied to B and B to C, A may still be ahead of C.

    Args:
        entries: Score by seed, by name; those without any value are left out.
        higher_is_better: Which end comes first.
        bounds: Range of the score.
    """
    means = {
        name: estimate(list(by_seed.values()), bounds=bounds)
        for name, by_seed in entries.items()
        if by_seed
    }
    order = sorted(means, key=lambda name: _mean(means[name]), reverse=higher_is_better)
    pairs = list(combinations(order, 2))
    told = compare_all(
        [((a, entries[a]), (b, entries[b])) for a, b in pairs],
        higher_is_better=higher_is_better,
        bounds=difference_bounds(bounds, bounds),
    )
    ahead = {
        (one.first, one.second)
        for one in told
        if one.verdict == "better" and not _overlap(means[one.first], means[one.second])
    }
    return tuple(
        Rank(
            name,
            1 + sum((other, name) in ahead for other in order),
            means[name],
            tuple(
                other
                for other in order
                if other != name and not {(name, other), (other, name)} & ahead
            ),
        )
        for name in order
    )


def _mean(found: Estimate) -> float:
    return float("nan") if found.value is None else found.value


def _overlap(one: Estimate, two: Estimate) -> bool:
    if one.n < 2 or two.n < 2 or one.reach is None or two.reach is None:
        return True
    return one.reach[0] <= two.reach[1] and two.reach[0] <= one.reach[1]
