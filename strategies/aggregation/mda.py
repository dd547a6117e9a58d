"""Minimum diameter averaging: the mean of the n - f updates that lie closest together.

Rousseeuw, Multivariate Estimation with High Breakdown Point, 1985; El Mhamdi, Guerraoui, Guirguis,
Rouault, Genuinely Distributed Byzantine Machine Learning, PODC 2020 (arXiv 1905.03853), section 3.

A subset of n - f has diameter t or less where the other f agents cover all pairs farther apart
than t: the smallest such t is found by bisection, its covers by branching on an agent (out, or all
far from it out). That is exact and grows with 2^f, where trying all subsets, as byzfl does, grows
with n over f. Of subsets of one diameter the one with the least sum of squared distances is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.gram import Doubles, gram, squared_distances
from strategies.aggregation.selection import average_of
from strategies.aggregation.updates import Updates

Bools = NDArray[np.bool_]


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
        squared = squared_distances(gram(updates, context.memory), len(updates))
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
    kept = [_shrunk(~out, len(squared) - f) for out in _covers(squared > levels[low], f)]
    return min(kept, key=lambda rows: (float(squared[np.ix_(rows, rows)].sum()), rows.tolist()))


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


def _shrunk(kept: Bools, count: int) -> NDArray[np.intp]:
    return np.flatnonzero(kept)[:count]
