"""Gaussian noise instead of the trained update, or on top of it.

Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, NeurIPS
2017, section 5: Byzantine workers send draws of a Gaussian with mean 0 and standard deviation 200
in each coordinate. That is for gradients; an update is a gradient times a learning rate, so that
smaller values already drown it. Each agent draws anew in each round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.vectors import fitting

if TYPE_CHECKING:
    from torch import Tensor


class Gaussian(UpdateAttack):
    """Hands over noise drawn from ``N(0, sigma^2 I)``."""

    kind: Literal["gaussian"] = "gaussian"
    paper: ClassVar[str] = "Blanchard et al., Machine learning with adversaries, NeurIPS 2017"

    sigma: float = Field(
        200.0,
        ge=0,
        le=1e9,
        description="Standard deviation of each coordinate.",
        json_schema_extra={"origin": "paper"},
    )
    mode: Literal["replace", "add"] = Field(
        "replace",
        description="Whether the noise replaces the trained update or is added to it.",
        json_schema_extra={"origin": "paper"},
    )

    def craft(self, view: View) -> Tensor:
        """Return the noise, or the noisy update."""
        generator = view.generator("gaussian")
        noise = torch.randn(len(view.own), generator=generator, dtype=torch.float64) * self.sigma
        update = noise if self.mode == "replace" else noise + view.own.double()
        return fitting(update, view.own.dtype)
