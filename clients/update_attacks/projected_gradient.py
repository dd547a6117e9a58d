"""Projected gradient descent: a backdoor trained within a ball around the global model.

Wang et al., Attack of the Tails: Yes, You Really Can Backdoor Federated Learning, NeurIPS 2020
(arXiv 2007.05084), section 4, "PGD attack" and "PGD attack with model replacement": while it
trains, the attacker draws its model back into ``||w - w0||_2 <= radius``, so that neither its norm
nor a clipping defence gives it away; with replacement it then scales as Bagdasaryan et al. do
(``scale: null``). Their attackers train on edge-case data: combine with such a behaviour.

Their code projects every tenth step and after an epoch's last one (here each step or each epoch),
and once scaled for replacement the update is as much longer as the factor is large; `bound` keeps
what is handed over below a norm in that case, too. What is handed over is always projected before
it is scaled, whatever the optimiser did after the last projection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import Before, View
from clients.update_attacks.boosted import Boosted
from clients.update_attacks.parts.vectors import length, times
from learning.training.job import UpdateConstraint

if TYPE_CHECKING:
    from torch import Tensor


class ProjectedGradient(Boosted):
    """Trains within a ball around the global model; the ball is `radius` times its unit wide."""

    kind: Literal["projected_gradient"] = "projected_gradient"
    paper: ClassVar[str] = "Wang et al., Attack of the tails, NeurIPS 2020, section 4"
    listens: ClassVar[bool] = True

    radius: float = Field(
        2.0,
        gt=0,
        le=1e9,
        description="Largest L2 distance from the global model, in the unit that `unit` names.",
        json_schema_extra={"origin": "code"},
    )
    unit: Literal["absolute", "model", "last_step"] = Field(
        "absolute",
        description="absolute: 1; model: the norm of the global model's weights; last_step: how "
        "far the last round moved them. Where that is 0 or not known (round 1), it trains freely.",
        json_schema_extra={"origin": "ours"},
    )
    project: Literal["step", "epoch"] = Field(
        "step",
        description="Whether the model is drawn back after each step or each epoch.",
        json_schema_extra={"origin": "ours"},
    )
    scale: float | None = Field(
        1.0,
        gt=0,
        le=1e9,
        description="Factor of the projected update; 1: without model replacement; null: with it, "
        "1 / (the agent's share of the rows of the round * server_lr).",
        json_schema_extra={"origin": "paper"},
    )

    def ball(self, before: Before) -> float | None:
        """Return the radius of the ball in this round, or None where there is none."""
        if self.unit == "absolute":
            return self.radius
        if self.unit == "model":
            return self.radius * length(before.start) or None
        if before.previous is None:
            return None
        step = before.start.double() - before.previous.double()
        return self.radius * length(step) or None

    def steering(self, before: Before) -> UpdateConstraint:
        """Return the projection onto the ball."""
        return UpdateConstraint(radius=self.ball(before), project=self.project)

    def craft(self, view: View) -> Tensor:
        """Return the update, projected and then scaled, (d,)."""
        inside = times(view.own, 1.0, self.ball(view))
        return times(inside, self.factor(view), self.bound)
