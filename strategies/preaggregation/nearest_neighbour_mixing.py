"""Nearest-neighbour mixing (NNM): each update becomes the mean of its n - f nearest.

Allouah et al., Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity, AISTATS
2023 (arXiv 2302.01772), Algorithm 2; an update is the nearest of its own. Of two at the same
distance the first agent counts; distances that differ by rounding alone are the same
(`strategies.aggregation.parts.gram.distances`). The mixed rows are made chunk by chunk, when the
rule reads them; their distances follow from those of the updates. byzfl gathers n x (n - f) x d
numbers.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from strategies.aggregation.base import Context, PreAggregator, too_few
from strategies.aggregation.parts.gram import distances, with_gram
from strategies.aggregation.updates import Updates


class NearestNeighbourMixing(PreAggregator):
    """Replaces each update by a mean of those around it."""

    kind: Literal["nearest_neighbour_mixing"] = "nearest_neighbour_mixing"
    paper: ClassVar[str] = "Allouah et al., Fixing by mixing, AISTATS 2023, Algorithm 2"

    f: int = Field(
        ge=0,
        description="Updates left out of each mean: a bound on the malicious agents of a round "
        "that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse 2f >= n."""
        return too_few(self, "2f + 1", 2 * self.f + 1, n)

    def apply(self, updates: Updates, context: Context) -> Updates:
        """Return the means of the nearest updates."""
        n = len(updates)
        updates = with_gram(updates, context.memory)
        squared = distances(updates, context.memory)
        np.fill_diagonal(squared, -1)
        nearest = np.argsort(squared, axis=1, kind="stable")[:, : n - self.f]
        mixing = torch.zeros(n, n, dtype=torch.float64)
        mixing.scatter_(1, torch.from_numpy(nearest), 1 / (n - self.f))
        return updates.mixed(mixing)
