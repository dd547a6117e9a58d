"""Norm clipping, with or without Gaussian noise.

Sun et al., Can You Really Backdoor Federated Learning?, 2019 (arXiv 1911.07963), section 4: each
update is scaled down to norm `bound` at most, then averaged with its share; "weak differential
privacy" adds Gaussian noise to the result. The paper sets `bound` and the noise by hand for its
model; without a bound, the median norm of the round is taken, which no minority can push.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, Even, State
from strategies.aggregation.parts.clipping import clip_factors, gaussian, median_of
from strategies.aggregation.parts.gram import combine, norms
from strategies.aggregation.updates import Updates


class NormClipping(Aggregator):
    """The weighted mean of clipped updates, plus noise; trust is the share after clipping."""

    kind: Literal["norm_clipping"] = "norm_clipping"
    paper: ClassVar[str] = "Sun et al., Can you really backdoor federated learning, 2019"
    even: ClassVar[Even | None] = "shares"

    bound: float | None = Field(
        None,
        gt=0,
        description="Largest norm of an update; the median norm of the round if it is left out.",
        json_schema_extra={"origin": "ours"},
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of the noise added to each coordinate of the result.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def draws(self) -> bool:
        """The noise is drawn."""
        return self.noise > 0

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the weighted mean of the clipped updates."""
        lengths = norms(updates, context.memory)
        bound = median_of(lengths) if self.bound is None else self.bound
        trust = updates.shares * clip_factors(lengths, bound)
        update = combine(updates, trust, context.memory)
        if self.noise:
            update += gaussian(updates, self.noise, "norm_clipping", context)
        return Aggregate(update, trust=trust)
