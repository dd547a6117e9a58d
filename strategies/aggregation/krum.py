"""Krum: the one update that is closest to its neighbours.

Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, NeurIPS
2017 (arXiv 1703.02757), section 4: the score of an update is the sum of its *squared* distances to
its n - f - 2 closest others; the lowest score wins, and of two that tie the first agent.

byzfl sums over n - f - 1 others. flwr sums over n - f - 2, but loses its digits where the models
are far larger than their differences, and picks any of two that tie.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.gram import distances
from strategies.aggregation.parts.selection import average_of, krum_scores, lowest
from strategies.aggregation.updates import Updates


class Krum(Aggregator):
    """Takes one update, unchanged; shares play no part."""

    kind: Literal["krum"] = "krum"
    paper: ClassVar[str] = "Blanchard et al., Machine learning with adversaries, NeurIPS 2017"

    f: int = Field(
        ge=0,
        description="Bound on the malicious agents of a round that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse n < 2f + 3."""
        return too_few(self, "2f + 3", 2 * self.f + 3, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the update of lowest score."""
        squared = distances(updates, context.memory)
        best = lowest(krum_scores(squared, self.f), 1)
        return average_of(updates, best, context.memory)
