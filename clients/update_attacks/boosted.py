"""What the attacks share that train as they like and scale what they have trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from clients.update_attacks.base import Before, LocalPlan, UpdateAttack, View
from clients.update_attacks.parts.vectors import times
from learning.training.job import UpdateConstraint

if TYPE_CHECKING:
    from torch import Tensor


class Boosted(UpdateAttack):
    """Trains by its own `epochs` and `rate`, and hands over a multiple of its update.

    Where `scale` is null, the factor is Bagdasaryan et al.'s (AISTATS 2020, eq. 3)
    ``gamma = n / eta``, which replaces the global model by the attacker's: see `factor`.
    """

    epochs: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Local epochs; null: as many as everybody's.",
        json_schema_extra={"origin": "ours"},
    )
    rate: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Factor of the local learning rate.",
        json_schema_extra={"origin": "ours"},
    )
    scale: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="Factor of the update; null: the one that replaces a weighted mean, 1 / (the "
        "agent's share of the rows of the round * server_lr).",
        json_schema_extra={"origin": "paper"},
    )
    server_lr: float = Field(
        1.0,
        gt=0,
        le=100,
        description="The server's learning rate as the attacker knows it, `server.lr` of "
        "`fedavg`; used where scale is null.",
        json_schema_extra={"origin": "ours"},
    )
    together: bool = Field(
        True,
        description="Where scale is null, members of a group that are asked in the same round "
        "share the factor out, so that the mean of their models replaces the global one; false: "
        "each scales as if it were alone, and together they overshoot.",
        json_schema_extra={"origin": "code"},
    )
    bound: float | None = Field(
        None,
        gt=0,
        description="Largest L2 norm of the update handed over; the factor is lowered to keep it.",
        json_schema_extra={"origin": "paper"},
    )

    def steering(self, before: Before) -> UpdateConstraint | None:
        """Return how the steps are changed, in place of a FedProx term; None: as everybody's."""
        return None

    def plan(self, before: Before) -> LocalPlan:
        """Return the attacker's own local training."""
        return LocalPlan(epochs=self.epochs, rate=self.rate, steering=self.steering(before))

    def factor(self, view: View) -> float:
        """Return the factor of the update.

        With ``w + server_lr * sum_i share_i u_i``, m attackers that each scale by
        ``1 / (share_i * server_lr * m)`` end at w plus the mean of their updates and what the
        others add.
        """
        if self.scale is not None:
            return self.scale
        return view.boost / self.server_lr / (view.accomplices if self.together else 1)

    def craft(self, view: View) -> Tensor:
        """Return the scaled update, (d,)."""
        return times(view.own, self.factor(view), self.bound)
