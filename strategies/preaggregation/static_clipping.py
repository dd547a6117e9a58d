"""Static clipping: updates above a fixed norm are scaled down to it.

Sun et al., Can You Really Backdoor Federated Learning?, 2019 (arXiv 1911.07963), section 4, as a
step before any rule.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Context, PreAggregator
from strategies.aggregation.parts.clipping import clip_factors
from strategies.aggregation.parts.gram import norms
from strategies.aggregation.updates import Updates


class StaticClipping(PreAggregator):
    """Clips each update to a given norm."""

    kind: Literal["static_clipping"] = "static_clipping"
    paper: ClassVar[str] = "Sun et al., Can you really backdoor federated learning, 2019"

    bound: float = Field(
        gt=0,
        description="Largest norm of an update.",
        json_schema_extra={"origin": "paper"},
    )

    def apply(self, updates: Updates, context: Context) -> Updates:
        """Return the clipped updates."""
        factors = clip_factors(norms(updates, context.memory), self.bound)
        return updates.mixed(torch.diag(factors))
