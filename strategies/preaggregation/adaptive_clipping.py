"""Adaptive robust clipping (ARC): the largest updates are scaled down to the next largest norm.

Allouah et al., Adaptive Gradient Clipping for Robust Federated Learning, ICLR 2025 (arXiv
2405.14432), Algorithm 2: the k = floor(2 f / n (n - f)) largest updates are clipped to the norm of
the largest of the others.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Context, PreAggregator, too_few
from strategies.aggregation.parts.clipping import clip_factors
from strategies.aggregation.parts.gram import norms
from strategies.aggregation.updates import Updates


class AdaptiveClipping(PreAggregator):
    """Clips the largest updates to a norm that the round itself gives."""

    kind: Literal["adaptive_clipping"] = "adaptive_clipping"
    paper: ClassVar[str] = "Allouah et al., Adaptive gradient clipping, ICLR 2025, Algorithm 2"

    f: int = Field(
        ge=0,
        description="Bound on the malicious agents of a round that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse 2f >= n."""
        return too_few(self, "2f + 1", 2 * self.f + 1, n)

    def apply(self, updates: Updates, context: Context) -> Updates:
        """Return the clipped updates."""
        n, lengths = len(updates), norms(updates, context.memory)
        clipped = 2 * self.f * (n - self.f) // n
        bound = float(lengths.sort().values[n - clipped - 1])
        return updates.mixed(torch.diag(clip_factors(lengths, bound)))
