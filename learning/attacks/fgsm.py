"""Fast gradient (sign) method (Goodfellow et al. 2015): one step of the whole radius.

    x' = clip(x + epsilon sign(grad_x L(f(x), y)), 0, 1)

and with the gradient scaled to unit length for the norm l2.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from learning.attacks.ascent import Norm, Radius, ascend, evaluating
from learning.attacks.base import InputAttack


class FGSM(InputAttack):
    """One gradient step from the input itself."""

    kind: Literal["fgsm"] = "fgsm"
    paper: ClassVar[str] = "Goodfellow et al. 2015, Explaining and harnessing adversarial examples"

    norm: Norm = Field("linf", description="Norm of the ball.")
    epsilon: Radius = Field(
        8 / 255,
        description="Radius of the ball, on inputs in [0, 1].",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def title(self) -> str:
        """See `InputAttack.title`."""
        return f"fgsm {self.norm} {self.epsilon:.6g}"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return adversarial inputs; see `InputAttack.perturb`."""
        with evaluating(model):
            inputs = x.detach().clone()
            return ascend(
                model,
                inputs,
                y,
                inputs,
                norm=self.norm,
                epsilon=self.epsilon,
                step_size=self.epsilon,
                steps=1,
            )
