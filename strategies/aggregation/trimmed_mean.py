"""Coordinate-wise trimmed mean.

Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018
(arXiv 1803.01498), Definition 2 and Algorithm 1, option II: the mean of each coordinate without
its `f` largest and `f` smallest values. The paper gives the share beta = f / n of each side; flwr
takes that share and rounds it down, byzfl takes f.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.sorting import average, network, ranked
from strategies.aggregation.updates import Updates


class TrimmedMean(Aggregator):
    """The mean of the values of each coordinate that are left after trimming; without shares."""

    kind: Literal["trimmed_mean"] = "trimmed_mean"
    paper: ClassVar[str] = "Yin et al., Byzantine-robust distributed learning, ICML 2018, option II"

    f: int = Field(
        ge=0,
        description="Values trimmed on each side: a bound on the malicious agents of a round that "
        "the defender is told.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse 2f >= n."""
        return too_few(self, "2f + 1", 2 * self.f + 1, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the trimmed mean of each coordinate."""
        ranks = range(self.f, len(updates) - self.f)
        # The mean of all values needs no order.
        comparisons = network(len(updates), ranks) if self.f else []
        out = torch.empty_like(updates.matrix[0])
        for columns, block in updates.chunks(context.memory):
            out[columns] = average(ranked(block, ranks, comparisons))
        return Aggregate(out)
