"""Mean around the median of each coordinate.

Xie, Koyejo, Gupta, Generalized Byzantine-tolerant SGD, 2018 (arXiv 1802.10116), Definition 9: the
mean of the n - f values closest to the median. Of values at the same distance below and above it,
of which not all can be kept, either side fills half of the places (see
`strategies.aggregation.parts.sorting.mean_around_median`); byzfl keeps either.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.sorting import mean_around_median, network, ranked
from strategies.aggregation.updates import Updates


class Meamed(Aggregator):
    """The mean of the values of each coordinate that are closest to its median; no shares."""

    kind: Literal["meamed"] = "meamed"
    paper: ClassVar[str] = "Xie, Koyejo, Gupta, Generalized Byzantine-tolerant SGD, 2018"

    f: int = Field(
        ge=0,
        description="Values left out of each coordinate: a bound on the malicious agents of a "
        "round that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse 2f >= n."""
        return too_few(self, "2f + 1", 2 * self.f + 1, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the mean around the median of each coordinate."""
        n = len(updates)
        comparisons = network(n, range(n))
        out = torch.empty_like(updates.matrix[0])
        for columns, block in updates.chunks(context.memory):
            ordered = ranked(block, range(n), comparisons)
            out[columns] = mean_around_median(ordered, n - self.f)
        return Aggregate(out)
