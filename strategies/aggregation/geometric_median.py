"""Geometric median (RFA): the point of least weighted distance to all updates.

Pillutla, Kakade, Harchaoui, Robust Aggregation for Federated Learning, IEEE TSP 2022 (arXiv
1912.13445), Algorithm 2, the smoothed Weiszfeld algorithm, from the weighted mean:

    beta_i = share_i / max(smoothing, |z - w_i|),   z = sum_i beta_i w_i / sum_i beta_i

z stays a weighted mean of the updates, so that all distances follow from one Gram matrix and an
iteration costs n^2 instead of n d. The paper stops after a few iterations, since each costs it a
round of messages; here they run until z stands still. byzfl starts from 0 with smoothing 0.1 and
stops after 3.

The result is within `smoothing` of a geometric median that is an update, as a rule within 1e-9 of
the updates' length of any other. Where copies nearly make an update the median, 100 iterations end
up to 3e-3 of that length away, where the sum of distances is 1e-6 above its least.

Weiszfeld's steps shrink without end where the median is an update itself, as copies make it. So
where an update is its own geometric median (the pull of the others on it is no stronger than its
own share and its copies': Vardi and Zhang, PNAS 2000, eq. 2.6), the iterations begin there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, Even, State
from strategies.aggregation.parts.gram import (
    ROUNDING,
    combine,
    distances_to,
    gram,
    squared_distances,
)
from strategies.aggregation.updates import Updates

if TYPE_CHECKING:
    from torch import Tensor


class GeometricMedian(Aggregator):
    """The smoothed geometric median; trust is the weight of each update in it."""

    kind: Literal["geometric_median"] = "geometric_median"
    paper: ClassVar[str] = "Pillutla, Kakade, Harchaoui, RFA, IEEE TSP 2022, Algorithm 2"
    even: ClassVar[Even | None] = "shares"

    smoothing: float = Field(
        1e-6,
        gt=0,
        description="Distances below this count as this.",
        json_schema_extra={"origin": "paper"},
    )
    iterations: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Iterations at most.",
        json_schema_extra={"origin": "ours"},
    )
    tolerance: float = Field(
        1e-10,
        ge=0,
        lt=1,
        description="The iterations end where z moves by less than this share of its median "
        "distance from the updates.",
        json_schema_extra={"origin": "ours"},
    )

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the geometric median."""
        n, shares = len(updates), updates.shares
        products = gram(updates, context.memory)[:n, :n]
        trust = _begin(shares, products)
        for _ in range(self.iterations):
            lengths = distances_to(trust, products)
            weights = shares / lengths.clamp(min=self.smoothing)
            last, trust = trust, weights / weights.sum()
            moved = trust - last
            if (moved @ products @ moved).clamp(min=0).sqrt() <= self.tolerance * lengths.median():
                break
        return Aggregate(combine(updates, trust, context.memory), trust=trust)


def _begin(shares: Tensor, products: Tensor) -> Tensor:
    """Return where the iterations begin, as shares of the updates, float64 (n,).

    Args:
        shares: The registered ones.
        products: Inner products of the updates about any centre, float64 (n, n).
    """
    apart = torch.from_numpy(squared_distances(products, len(shares))).sqrt()
    best = int((apart @ shares).argmin())
    squares = products.diagonal()
    copies = apart[best] <= (ROUNDING * (squares + squares[best])).sqrt()
    pull = torch.where(copies, 0.0, shares / apart[best].clamp(min=1e-300))
    pull[best] = -pull.sum()
    own = float(shares[copies].sum())
    length = float((pull @ products @ pull).clamp(min=0).sqrt())
    if not own or length > own * (1 + 1e-9):
        return shares
    return torch.where(copies, shares, 0.0) / own
