"""Centred clipping: updates are clipped around the last aggregate.

Karimireddy, He, Jaggi, Learning from History for Byzantine Robust Optimization, ICML 2021 (arXiv
2012.10333), Algorithm 2, from v = the aggregate of the last round (0 before the first):

    v <- v + 1/n sum_i (x_i - v) min(1, radius / |x_i - v|)

The paper sets the radius by hand; without one, the median distance from the centre is taken. byzfl
does the same with a radius of 100 and keeps v inside the rule; here v is the rule's state.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, Even, State
from strategies.aggregation.parts.clipping import clip_factors, median_of
from strategies.aggregation.parts.gram import combine, distances_to, gram
from strategies.aggregation.updates import Updates


class CentredClipping(Aggregator):
    """The centre moved by clipped differences; the rest of the trust is the old centre's."""

    kind: Literal["centred_clipping"] = "centred_clipping"
    paper: ClassVar[str] = "Karimireddy, He, Jaggi, Learning from history, ICML 2021, Algorithm 2"
    even: ClassVar[Even | None] = "equal"

    radius: float | None = Field(
        None,
        gt=0,
        description="Longest step towards an update; the median distance from the first centre "
        "of the round if it is left out.",
        json_schema_extra={"origin": "ours"},
    )
    iterations: int = Field(
        1,
        ge=1,
        le=1000,
        description="Steps in a round.",
        json_schema_extra={"origin": "paper"},
    )

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the new centre, which is the state too."""
        n, last = len(updates), state.get("centre")
        extra = None if last is None else last.to(updates.matrix)[None]
        products = gram(updates, context.memory, extra)
        # The centre as a sum of all points: the rows, the origin and the last centre.
        centre = torch.zeros(len(products), dtype=torch.float64)
        centre[-1] = 1
        radius = self.radius
        for _ in range(self.iterations):
            lengths = distances_to(centre, products)[:n]
            radius = median_of(lengths) if radius is None else radius
            steps = clip_factors(lengths, radius) / n
            centre *= 1 - steps.sum()
            centre[:n] += steps
        update = combine(updates, centre[:n], context.memory)
        if extra is not None:
            update += float(centre[-1]) * extra[0]
        return Aggregate(update, trust=centre[:n].clone(), state={"centre": update.clone()})
