"""Coordinate-wise median.

Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018
(arXiv 1803.01498), Definition 1 and Algorithm 1, option I. For an even number of updates it is the
mean of the two in the middle, as in NumPy, byzfl and flwr; `torch.median` takes the lower one.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from strategies.aggregation.base import Aggregate, Aggregator, Context, State
from strategies.aggregation.parts.sorting import average, middle, network, ranked
from strategies.aggregation.updates import Updates


class Median(Aggregator):
    """The median of each coordinate; shares play no part."""

    kind: Literal["median"] = "median"
    paper: ClassVar[str] = "Yin et al., Byzantine-robust distributed learning, ICML 2018, option I"

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the median of each coordinate."""
        ranks = middle(len(updates))
        comparisons = network(len(updates), ranks)
        out = torch.empty_like(updates.matrix[0])
        for columns, block in updates.chunks(context.memory):
            out[columns] = average(ranked(block, ranks, comparisons))
        return Aggregate(out)
