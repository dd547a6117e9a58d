"""Robust learning rate: coordinates on whose sign too few agents agree go the other way.

Ozdayi, Kantarcioglu, Gel, Defending against Backdoors in Federated Learning with Robust Learning
Rate, AAAI 2021 (arXiv 2007.03767), Algorithm 1: the rate of coordinate j is 1 where
``|sum_i sign(update_ij)| >= threshold``, else -1; it multiplies the weighted mean.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.gram import combine
from strategies.aggregation.updates import Updates


class RobustLearningRate(Aggregator):
    """The weighted mean, with the sign turned round where agents disagree."""

    kind: Literal["robust_learning_rate"] = "robust_learning_rate"
    paper: ClassVar[str] = "Ozdayi, Kantarcioglu, Gel, Robust learning rate, AAAI 2021"

    threshold: int = Field(
        ge=0,
        description="Agents that must outvote the others on the sign of a coordinate; the paper "
        "wants more than the malicious agents.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse a threshold that even agents of one mind would not reach."""
        return too_few(self, "threshold", max(1, self.threshold), n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the weighted mean with its signs."""
        update = combine(updates, updates.shares, context.memory)
        for columns, block in updates.chunks(context.memory):
            votes = block.sign_().sum(dim=0)
            update[columns] *= torch.where(votes.abs() >= self.threshold, 1, -1)
        return Aggregate(update)
