"""Fast gradient (sign) method (Goodfellow et al. 2015): one step of the whole radius.

    x' = clip(x + epsilon sign(grad_x L(f(x), y)))

and with the gradient scaled to unit length for the norm l2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from learning.attacks.ascent import Ball, Inputs, Norm, Radius, evaluating, probe
from learning.attacks.base import InputAttack
from learning.attacks.losses import LossName, Objective, objectives
from learning.attacks.pace import ConstantPace
from learning.attacks.worst import Worst

if TYPE_CHECKING:
    from torch import Tensor, nn


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
    loss: LossName = Field(
        "worst",
        description="What is climbed: cross_entropy (the paper's), margin (the largest other logit "
        "minus the true one), or worst: the step of each, cross-entropy on logits brought to one "
        "scale, and the worse of the two counts for each input.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def title(self) -> str:
        """See `InputAttack.title`; what differs from the defaults is added."""
        parts = [f"fgsm {self.norm} {self.epsilon:.6g}"]
        parts += [] if self.loss == "worst" else [self.loss.replace("_", "-")]
        return " ".join(parts)

    @property
    def ball(self) -> Ball:
        """See `InputAttack.ball`."""
        return Ball(self.norm, self.epsilon)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return adversarial inputs; see `InputAttack.perturb`."""
        with evaluating(model):
            worst = Worst(model, x.detach().clone(), y)
            self.step(model, worst)
            return worst.at

    def step(self, model: nn.Module, worst: Worst) -> None:
        """Show `worst` the steps from all its clean inputs; call within `evaluating`."""
        for objective in objectives(self.loss):
            moved = self._moved(model, worst.all, objective)
            with torch.no_grad():
                worst.see(worst.all, moved, model(moved))

    def _moved(self, model: nn.Module, inputs: Inputs, objective: Objective) -> Tensor:
        _, loss, gradient = probe(model, inputs, inputs.x, objective)
        pace = ConstantPace(self.ball, self.epsilon)
        return pace.after(inputs, inputs.x, loss, gradient)
