"""Neurotoxin: a backdoor in the coordinates that the others hardly move, so that it lasts.

Zhang et al., Neurotoxin: Durable Backdoors in Federated Learning, ICML 2022 (arXiv 2206.10341),
Algorithm 1: the attacker leaves the top-k% coordinates of the last aggregated update alone and
trains on the others. The update is what every agent can see of it, ``w_t - w_{t-1}``, and the
top k% are taken over the whole vector; a server optimiser with momentum shows through in it. In
round 1, and after a round that moved nothing, there is none: the attacker trains freely.

Their code differs: its coordinates are those of the largest gradients on clean data that the
attacker has, and it takes them over the whole vector (``aggregate_all_layer: 1``, as in its
instructions) or, without that switch, layer by layer. Its attacker may also be projected onto the
ball of the norm that the server clips at: `bound`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from clients.update_attacks.base import Before, View
from clients.update_attacks.boosted import Boosted
from clients.update_attacks.parts.vectors import times
from learning.shares import count_of
from learning.training.job import UpdateConstraint

if TYPE_CHECKING:
    from torch import Tensor


class Neurotoxin(Boosted):
    """Trains on the coordinates that the last round moved least."""

    kind: Literal["neurotoxin"] = "neurotoxin"
    paper: ClassVar[str] = "Zhang et al., Neurotoxin, ICML 2022, Algorithm 1"
    listens: ClassVar[bool] = True

    top_k: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of all weights that are left alone (halves up, never all of them): "
        "those that the last round moved most.",
        json_schema_extra={"origin": "code"},
    )
    scale: float | None = Field(
        1.0,
        gt=0,
        le=1e9,
        description="Factor of the update; null: the one that replaces a weighted mean, 1 / (the "
        "agent's share of the rows of the round * server_lr).",
        json_schema_extra={"origin": "ours"},
    )
    bound: float | None = Field(
        None,
        gt=0,
        description="Largest L2 norm of the update: while it trains, and of what is handed over.",
        json_schema_extra={"origin": "code"},
    )

    def free(self, before: Before) -> Tensor | None:
        """Return which coordinates the attacker uses, bool (d,); None for all."""
        if before.previous is None:
            return None
        moved = (before.start.double() - before.previous.double()).abs()
        count = min(count_of(self.top_k, len(moved)), len(moved) - 1)
        return None if not count or not bool(moved.any()) else ~_largest(moved, count)

    def steering(self, before: Before) -> UpdateConstraint:
        """Return the mask of the gradients, and the ball where there is a bound."""
        return UpdateConstraint(free=self.free(before), radius=self.bound)

    def craft(self, view: View) -> Tensor:
        """Return the update, exactly 0 on what is left alone (weight decay moves that, too)."""
        free = self.free(view)
        update = view.own if free is None else view.own.where(free, 0.0)
        return times(update, self.factor(view), self.bound)


def _largest(values: Tensor, count: int) -> Tensor:
    """Return which are the `count` largest values, bool (d,); of equal ones the first."""
    threshold = values.kthvalue(len(values) - count + 1).values
    chosen = values > threshold
    ties = torch.nonzero(values == threshold).flatten()
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen
