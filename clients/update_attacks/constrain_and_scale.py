"""Constrain-and-scale: train close to the global model, then replace it.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov, How To Backdoor Federated Learning, AISTATS 2020 (arXiv
1807.00459), eq. 4: the loss is ``alpha L_class + (1 - alpha) L_ano``. The paper leaves L_ano open
("any type of anomaly detection"). Here it is the squared distance to the global model, ``L_ano =
||w - w0||^2``, over all weights, so that the gradient is ``alpha dL_class/dw + 2 (1 - alpha) (w -
w0)``: `UpdateConstraint` with ``gain = alpha, pull = 2 (1 - alpha)``. Their code takes the distance
itself, whose pull has the same length 1 - alpha wherever w is: weaker than ours beyond a distance
of 1/2, stronger below. A FedProx term of the scenario's gives way to it.

Afterwards the update is scaled as in model replacement; `bound` is the norm S of their
train-and-scale, for a detector that looks at norms.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import Before
from clients.update_attacks.boosted import Boosted
from learning.training.job import UpdateConstraint


class ConstrainAndScale(Boosted):
    """Trains near the global model and hands over ``gamma`` times its update."""

    kind: Literal["constrain_and_scale"] = "constrain_and_scale"
    paper: ClassVar[str] = "Bagdasaryan et al., How to backdoor FL, AISTATS 2020, eq. 4"

    alpha: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Weight of the classification loss; 1 - alpha is that of the squared distance "
        "to the global model. At 1 the attack is model replacement.",
        json_schema_extra={"origin": "ours"},
    )

    def steering(self, before: Before) -> UpdateConstraint:
        """Return the gradient of the two losses."""
        return UpdateConstraint(gain=self.alpha, pull=2 * (1 - self.alpha))
