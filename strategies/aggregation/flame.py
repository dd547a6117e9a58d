"""FLAME: cluster by direction, clip to the median norm, add noise.

Nguyen et al., FLAME: Taming Backdoors in Federated Learning, USENIX Security 2022 (arXiv
2101.02281), Algorithm 1: HDBSCAN on the cosine distances with clusters of at least n/2 + 1 agents;
those outside the one cluster are dropped; the others are clipped to the median norm S of *all*
updates and averaged; then Gaussian noise of deviation noise x S is added.

The paper compares the directions of whole models; here those of the updates are compared, which
differ by far more. Where HDBSCAN finds no cluster, all updates are kept and a note says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, Even, State
from strategies.aggregation.parts.clipping import clip_factors, gaussian, median_of
from strategies.aggregation.parts.gram import about_origin, combine, cosines
from strategies.aggregation.updates import Updates

if TYPE_CHECKING:
    from torch import Tensor


class Flame(Aggregator):
    """The plain mean of the clipped updates of one cluster, plus noise."""

    kind: Literal["flame"] = "flame"
    paper: ClassVar[str] = "Nguyen et al., FLAME, USENIX Security 2022, Algorithm 1"
    even: ClassVar[Even | None] = "equal"

    noise: float = Field(
        0.001,
        ge=0,
        description="Deviation of the noise in units of the median norm; the paper's value for "
        "image classification.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def draws(self) -> bool:
        """The noise is drawn."""
        return self.noise > 0

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the noisy mean of the clipped updates of the largest cluster."""
        products = about_origin(updates, context.memory)
        lengths, selected = products.diagonal().sqrt(), majority(1 - cosines(products))
        notes = () if selected.any() else ("no cluster holds more than half: all are kept",)
        selected = selected if selected.any() else ~selected
        bound = median_of(lengths)
        trust = clip_factors(lengths, bound) * selected / selected.sum()
        update = combine(updates, trust, context.memory)
        if self.noise:
            update += gaussian(updates, self.noise * bound, "flame", context)
        return Aggregate(update, trust=trust, selected=selected, notes=notes)


def majority(distances: Tensor) -> Tensor:
    """Return which rows are in the cluster that holds more than half of them, bool (n,).

    Args:
        distances: float64 (n, n), symmetric.
    """
    from sklearn.cluster import HDBSCAN  # slow to load, and listing the rules needs none

    n, distances = len(distances), distances.round(decimals=12)  # copies have distance 0
    if n < 3:
        return torch.ones(n, dtype=torch.bool)
    model = HDBSCAN(
        min_cluster_size=n // 2 + 1,
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    )
    labels = model.fit_predict(distances.numpy())
    return torch.from_numpy(np.asarray(labels) >= 0)
