"""Multi-Krum: the mean of the updates of lowest Krum score.

Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, NeurIPS
2017 (arXiv 1703.02757), section 4 (the score) and section 6 (Multi-Krum). The mean is a plain one;
flwr weights it by what the clients say.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, State, too_few
from strategies.aggregation.parts.gram import distances
from strategies.aggregation.parts.selection import average_of, krum_scores, lowest
from strategies.aggregation.updates import Updates


class MultiKrum(Aggregator):
    """Takes the `m` updates of lowest score; shares play no part."""

    kind: Literal["multi_krum"] = "multi_krum"
    paper: ClassVar[str] = (
        "Blanchard et al., Machine learning with adversaries, NeurIPS 2017, section 6"
    )

    f: int = Field(
        ge=0,
        description="Bound on the malicious agents of a round that the defender is told.",
        json_schema_extra={"origin": "paper"},
    )
    m: int | None = Field(
        None,
        ge=1,
        description="Updates to take; n - f of a round of n if it is left out.",
        json_schema_extra={"origin": "paper"},
    )

    def infeasible(self, n: int) -> str | None:
        """Refuse n < 2f + 3, and m > n."""
        return too_few(self, "2f + 3", 2 * self.f + 3, n) or too_few(self, "m", self.m or 1, n)

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the mean of the updates of lowest score."""
        n = len(updates)
        squared = distances(updates, context.memory)
        best = lowest(krum_scores(squared, self.f), self.m or n - self.f)
        return average_of(updates, best, context.memory)
