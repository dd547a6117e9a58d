"""Bucketing: updates are put into random buckets, and each bucket becomes its mean.

Karimireddy, He, Jaggi, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing, ICLR
2022 (arXiv 2006.09365), Algorithm 1. One malicious agent spoils one bucket: the rule that follows
has to bear f of n / s rows. The last bucket may be smaller. A bucket weighs what its agents weigh.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Context, PreAggregator
from strategies.aggregation.updates import Updates


class Bucketing(PreAggregator):
    """Replaces the updates by the plain means of random buckets."""

    kind: Literal["bucketing"] = "bucketing"
    paper: ClassVar[str] = "Karimireddy, He, Jaggi, Bucketing, ICLR 2022, Algorithm 1"

    s: int = Field(
        2,
        ge=1,
        description="Agents in a bucket.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def draws(self) -> bool:
        """The buckets are drawn."""
        return True

    def rows(self, n: int) -> int:
        """Return the number of buckets."""
        return -(-n // self.s)

    def apply(self, updates: Updates, context: Context) -> Updates:
        """Return the means of the buckets; a bucket is named after its agents."""
        n, generator = len(updates), context.generator("bucketing", updates.round)
        buckets = torch.split(torch.randperm(n, generator=generator), self.s)
        mixing = torch.zeros(len(buckets), n, dtype=torch.float64)
        for row, members in zip(mixing, buckets, strict=True):
            row[members] = 1 / len(members)
        names = tuple("+".join(updates.agents[at] for at in sorted(b.tolist())) for b in buckets)
        weights = torch.stack([updates.weights[members].sum() for members in buckets])
        return updates.mixed(mixing, names, weights)
