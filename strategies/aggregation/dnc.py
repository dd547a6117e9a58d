"""Divide and conquer (DnC): updates that stand out along the top direction are dropped.

Shejwalkar, Houmansadr, Manipulating the Byzantine, NDSS 2021, Algorithm 2. In each iteration some
coordinates are drawn, the updates are centred on their mean and projected on the top right singular
vector; the `filtered` x f of largest squared projection are dropped. The mean of those that no
iteration dropped is the result. The paper does not say what to do where all were dropped: here
those dropped least often are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from learning.shares import count_of
from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.gram import Doubles
from strategies.aggregation.parts.selection import average_of, lowest
from strategies.aggregation.updates import NotFinite, Updates

if TYPE_CHECKING:
    from torch import Tensor


class DnC(Aggregator):
    """The plain mean of the updates that stand out in no iteration."""

    kind: Literal["dnc"] = "dnc"
    paper: ClassVar[str] = "Shejwalkar, Houmansadr, Manipulating the Byzantine, NDSS 2021"

    f: int = Field(
        ge=0,
        description="Bound on the malicious agents of a round that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )
    iterations: int = Field(
        1,
        ge=1,
        le=1000,
        description="How often coordinates are drawn.",
        json_schema_extra={"origin": "code"},
    )
    coordinates: int = Field(
        10_000,
        ge=1,
        description="Coordinates drawn in an iteration; all of a smaller model.",
        json_schema_extra={"origin": "paper"},
    )
    filtered: float = Field(
        1.0,
        ge=0,
        le=2,
        description="Updates dropped in an iteration, in units of f; halves round up.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def draws(self) -> bool:
        """The coordinates are drawn."""
        return True

    def infeasible(self, n: int) -> str | None:
        """Refuse 2f >= n."""
        return too_few(self, "2f + 1", 2 * self.f + 1, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the mean of the updates that stand out in no iteration."""
        n, generator = len(updates), context.generator("dnc", updates.round)
        votes = np.zeros(n, np.int64)
        for _ in range(self.iterations):
            drawn = torch.randperm(updates.width, generator=generator)[: self.coordinates]
            rows = updates.some(drawn.sort().values)
            votes[lowest(outlier_scores(rows), n - count_of(self.filtered, self.f))] += 1
        return average_of(updates, np.flatnonzero(votes == votes.max()), context.memory)


def outlier_scores(rows: Tensor) -> Doubles:
    """Return the squared projection of each centred row on the top right singular vector.

    Args:
        rows: (n, b), finite.

    Returns:
        float64 (n,), from the smaller of the two Gram matrices.

    Raises:
        NotFinite: If a row is not finite.
    """
    centred = rows.double()
    centred -= centred.mean(dim=0)
    products = centred @ centred.T
    if not bool(torch.isfinite(products).all()):
        raise NotFinite("the updates drawn by dnc are not finite: expected finite updates")
    values, vectors = torch.linalg.eigh(products)
    return np.asarray((values[-1] * vectors[:, -1] ** 2).cpu().numpy())
