"""Min-max: no farther from any honest update than two honest ones are from each other.

Shejwalkar, Houmansadr, Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses
for Federated Learning, NDSS 2021, section IV-C: ``mean - gamma * p`` with the largest gamma for
which

    max_i |update - x_i| <= max_ij |x_i - x_j|

over the updates x that are seen; see `clients.update_attacks.parts.perturbation` for p and the
search. The paper attacks with and without the benign updates; its tables of the strongest attacks
are with them (knowledge: honest), without them the attackers' own stand in (group). Which p is
strongest depends on data and rule; the default of its code is the unit vector. byzfl has no
min-max.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.perturbation import Cloud, Perturbation, farthest

if TYPE_CHECKING:
    from torch import Tensor


class MinMax(UpdateAttack):
    """Hands over the mean, moved as far as two of the updates it sees are apart."""

    kind: Literal["min_max"] = "min_max"
    paper: ClassVar[str] = "Shejwalkar and Houmansadr, Manipulating the Byzantine, NDSS 2021, IV-C"

    knowledge: Literal["group", "honest"] = Field(
        "honest",
        description="Whose updates give mean and distances.",
        json_schema_extra={"origin": "paper"},
    )
    perturbation: Perturbation = Field(
        "unit",
        description="Against the mean, against its signs, or against the deviation.",
        json_schema_extra={"origin": "code"},
    )
    tolerance: float = Field(
        1e-5,
        ge=1e-12,
        le=0.1,
        description="How exactly the factor is found, in parts of the largest there could be.",
        json_schema_extra={"origin": "ours"},
    )

    def craft(self, view: View) -> Tensor:
        """Return the mean, moved."""
        return farthest(view, self.perturbation, self.tolerance, torch.Tensor.max, _diameter)


def _diameter(cloud: Cloud) -> Tensor:
    return cloud.apart.max()
