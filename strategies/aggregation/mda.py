"""Minimum diameter averaging: the mean of the n - f updates that lie closest together.

Rousseeuw, Multivariate Estimation with High Breakdown Point, 1985; El Mhamdi, Guerraoui, Guirguis,
Rouault, Genuinely Distributed Byzantine Machine Learning, PODC 2020 (arXiv 1905.03853), section 3.

A subset of n - f has diameter t or less where the other f agents cover all pairs farther apart
than t: the smallest such t is found by bisection, its covers by branching on an agent (out, or all
far from it out). That is exact and grows with 2^f, where trying all subsets, as byzfl does, grows
with n over f. Of subsets of one diameter the one with the least sum of squared distances is taken,
and of those that tie in that too the one of the first agents. Where fewer than f agents cover, the
others that are left out are the best of all choices; if there are more than `CHOICES` of these,
they are left out one by one, each time the one farthest from those that are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.gram import ROUNDING, Doubles, distances
from strategies.aggregation.parts.selection import average_of
from strategies.aggregation.updates import Updates

Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

# Subsets of one cover that are compared with each other.
CHOICES = 10_000


class MDA(Aggregator):
    """The plain mean of the closest n - f updates."""

    kind: Literal["mda"] = "mda"
    paper: ClassVar[str] = "El Mhamdi et al., Genuinely distributed Byzantine ML, PODC 2020"

    f: int = Field(
        ge=0,
        le=16,
        description="Updates left out: a bound on the malicious agents of a round that the "
        "defender is told. The time grows with 2^f.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse 2f >= n."""
        return too_few(self, "2f + 1", 2 * self.f + 1, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the mean of the subset of least diameter."""
        squared = distances(updates, context.memory)
        return average_of(updates, closest_together(squared, self.f), context.memory)


def closest_together(squared: Doubles, f: int) -> NDArray[np.intp]:
    """Return the n - f rows of least diameter, ascending.

    Args:
        squared: Squared distances, float64 (n, n).
        f: Rows left out, 2f < n.
    """
    levels = np.unique(squared)
    low, high = 0, len(levels) - 1
    while low < high:
        level = (low + high) // 2
        found = next(_covers(squared > levels[level], f), None)
        low, high = (low, level) if found is not None else (level + 1, high)
    covers = _covers(squared > levels[low], f)
    return _least(
        [_closest(np.flatnonzero(~out), len(squared) - f, squared) for out in covers], squared
    )


def _least(subsets: list[Ints], squared: Doubles) -> Ints:
    """Return the subset of least sum of squared distances, the first agents' of those that tie."""
    sums = [float(squared[np.ix_(rows, rows)].sum()) for rows in subsets]
    most = min(sums) * (1 + ROUNDING)
    return min((s for s, total in zip(subsets, sums, strict=True) if total <= most), key=list)


def _covers(far: Bools, f: int, out: Bools | None = None) -> Iterator[Bools]:
    """Yield the sets of at most `f` rows without which no pair of `far` is left."""
    out = np.zeros(len(far), np.bool_) if out is None else out
    degrees = np.where(out, 0, far[:, ~out].sum(axis=1))
    most = int(np.argmax(degrees))
    if degrees[most] == 0:
        yield out
    elif degrees.sum() <= 2 * f * degrees[most]:  # else f rows are not enough
        yield from _covers(far, f - 1, out | (np.arange(len(far)) == most))
        if degrees[most] <= f:
            yield from _covers(far, f - int(degrees[most]), out | far[most])


def _closest(kept: Ints, count: int, squared: Doubles) -> Ints:
    """Return the `count` of some rows, ascending, that have the least sum of squared distances."""
    extra = len(kept) - count
    if not extra:
        return kept
    if comb(len(kept), extra) > CHOICES:
        return _closest_by_steps(kept, count, squared)
    among = squared[np.ix_(kept, kept)]
    out = np.array(list(combinations(range(len(kept)), extra)), np.intp)
    # A pair with both ends left out is taken off twice.
    both = among[out[:, :, None], out[:, None, :]].sum(axis=(1, 2))
    sums = among.sum() - 2 * among.sum(axis=1)[out].sum(axis=1) + both
    tied = out[sums <= sums.min() + ROUNDING * among.sum()]
    return _least([np.delete(kept, rows) for rows in tied], squared)


def _closest_by_steps(kept: Ints, count: int, squared: Doubles) -> Ints:
    while len(kept) > count:
        sums = squared[np.ix_(kept, kept)].sum(axis=1)
        farthest = np.flatnonzero(sums >= sums.max() * (1 - ROUNDING))[-1]
        kept = np.delete(kept, farthest)
    return kept
