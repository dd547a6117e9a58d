"""Min-sum: in all no farther from the honest updates than an honest one is from the others.

Shejwalkar, Houmansadr, Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses
for Federated Learning, NDSS 2021, section IV-C: ``mean - gamma * p`` with the largest gamma for
which

    sum_i |update - x_i|^2 <= max_i sum_j |x_i - x_j|^2

over the updates x that are seen; see `clients.update_attacks.parts.perturbation` for p and the
search. The paper's code takes the smallest sum over i instead, and is weaker: `bound` chooses.
Knowledge and p are as for min-max.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.perturbation import Cloud, Perturbation, farthest

if TYPE_CHECKING:
    from torch import Tensor


class MinSum(UpdateAttack):
    """Hands over the mean, moved until it is as far from all as one of the updates it sees."""

    kind: Literal["min_sum"] = "min_sum"
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
    bound: Literal["max", "min"] = Field(
        "max",
        description="Whose sum is the bound: that of the update farthest from the others, as in "
        "the paper, or of the closest, as in its code.",
        json_schema_extra={"origin": "paper"},
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
        return farthest(view, self.perturbation, self.tolerance, torch.Tensor.sum, self._most)

    def _most(self, cloud: Cloud) -> Tensor:
        sums = cloud.apart.sum(dim=1)
        return sums.max() if self.bound == "max" else sums.min()
