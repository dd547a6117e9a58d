"""Bulyan: Krum again and again, then the values closest to the median of each coordinate.

El Mhamdi, Guerraoui, Rouault, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML
2018 (arXiv 1802.07927), section 4: theta = n - 2f updates are taken one by one, each time the one
that Krum picks of those left; then each coordinate is the mean of the theta - 2f values closest to
the median of the theta.

flwr takes the theta lowest scores of a single run of Krum. Krum of r updates sums over r - f - 2
distances; for the last ones that is less than one, and here one is summed up. Of two that tie the
one closer to all those left is taken, then the first agent; ties about the median are those of
`strategies.aggregation.parts.sorting.mean_around_median`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.gram import ROUNDING, Doubles, distances
from strategies.aggregation.parts.sorting import mean_around_median, network, ranked
from strategies.aggregation.updates import Updates


class Bulyan(Aggregator):
    """Takes n - 2f updates, and of them n - 4f values in each coordinate; without shares."""

    kind: Literal["bulyan"] = "bulyan"
    paper: ClassVar[str] = "El Mhamdi, Guerraoui, Rouault, Hidden vulnerability, ICML 2018"

    f: int = Field(
        ge=0,
        description="Bound on the malicious agents of a round that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse n < 4f + 3."""
        return too_few(self, "4f + 3", 4 * self.f + 3, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return for each coordinate the mean of the selected values closest to their median."""
        n = len(updates)
        squared = distances(updates, context.memory)
        rows = torch.from_numpy(krum_order(squared, self.f, n - 2 * self.f)).sort().values
        comparisons = network(len(rows), range(len(rows)))
        out = torch.empty_like(updates.matrix[0])
        for columns, block in updates.chunks(context.memory):
            ordered = ranked(block[rows.to(out.device)], range(len(rows)), comparisons)
            out[columns] = mean_around_median(ordered, n - 4 * self.f)
        selected = torch.zeros(n, dtype=torch.bool)
        selected[rows] = True
        return Aggregate(out, selected=selected)


def krum_order(squared: Doubles, f: int, count: int) -> NDArray[np.int64]:
    """Return the `count` rows that Krum picks one after the other, each of those left.

    Args:
        squared: Squared distances, float64 (n, n).
        f: Bound on the malicious rows.
        count: How many are picked.
    """
    apart = squared + np.diag(np.full(len(squared), np.inf))
    order = np.argsort(apart, axis=1, kind="stable")[:, :-1]
    apart, left = np.take_along_axis(apart, order, axis=1), np.ones(len(squared), np.bool_)
    picked = []
    for _ in range(count):
        there = left[order]
        closest = there & (there.cumsum(axis=1) <= max(1, left.sum() - f - 2))
        scores = np.where(closest, apart, 0).sum(axis=1)
        # Always several where one distance is summed up.
        tied = left & (scores <= scores[left].min() * (1 + ROUNDING))
        total = np.where(there, apart, 0).sum(axis=1)
        first = tied & (total <= total[tied].min() * (1 + ROUNDING))
        picked.append(int(np.argmax(first)))
        left[picked[-1]] = False
    return np.array(picked, np.int64)
