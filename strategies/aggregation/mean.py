"""Weighted mean: the aggregation of federated averaging, without any defence.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS
2017 (arXiv 1602.05629), Algorithm 1: ``sum_i n_i / n * w_i``. The weights are the registered
shares; in most libraries they are what the clients say.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from strategies.aggregation.base import Aggregate, Aggregator, Context, State
from strategies.aggregation.parts.gram import combine
from strategies.aggregation.updates import Updates


class Mean(Aggregator):
    """The mean of all updates, weighted by their registered shares."""

    kind: Literal["mean"] = "mean"
    paper: ClassVar[str] = "McMahan et al., Federated averaging, AISTATS 2017, Algorithm 1"
    undefended: ClassVar[bool] = True

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the weighted mean; an agent's trust is its share."""
        shares = updates.shares
        return Aggregate(combine(updates, shares, context.memory), trust=shares)
