"""Projected gradient descent (Madry et al. 2018): gradient steps, each cut back to the ball.

    x_{t+1} = clip(P_epsilon(x_t + step_size sign(grad_x L(f(x_t), y))), 0, 1)

With several restarts the worst case of each input counts: a wrong prediction before a right one,
then the higher loss.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from learning.attacks.ascent import Norm, Radius, ascend, evaluating, random_in_ball
from learning.attacks.base import InputAttack


class PGD(InputAttack):
    """Several gradient steps, from random starts."""

    kind: Literal["pgd"] = "pgd"
    paper: ClassVar[str] = "Madry et al. 2018, Towards deep learning models resistant to attacks"

    norm: Norm = Field("linf", description="Norm of the ball.")
    epsilon: Radius = Field(
        8 / 255,
        description="Radius of the ball, on inputs in [0, 1].",
        json_schema_extra={"origin": "paper"},
    )
    steps: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Steps for each restart.",
        json_schema_extra={"origin": "paper"},
    )
    step_size: Radius | None = Field(
        None,
        description="Length of a step; null: 2.5 epsilon / steps, as the paper's authors do.",
        json_schema_extra={"origin": "code"},
    )
    random_start: bool = Field(
        True,
        description="Start at a uniform point of the ball; else at the input.",
        json_schema_extra={"origin": "paper"},
    )
    restarts: int = Field(
        1,
        ge=1,
        le=10_000,
        description="Random starts; the worst case of each input counts.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_restarts(self) -> PGD:
        if self.restarts > 1 and not self.random_start:
            raise ValueError("expected restarts: 1 without random_start, as all would be the same")
        return self

    @property
    def title(self) -> str:
        """See `InputAttack.title`; what differs from the defaults is added."""
        parts = [f"pgd {self.norm} {self.epsilon:.6g} x{self.steps}"]
        parts += [] if self.step_size is None else [f"step {self.step_size:.6g}"]
        parts += [] if self.random_start else ["from the input"]
        parts += [f"{self.restarts} restarts"] if self.restarts > 1 else []
        return " ".join(parts)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return adversarial inputs; see `InputAttack.perturb`."""
        with evaluating(model):
            inputs = x.detach().clone()
            worst = self._once(model, inputs, y, generator)
            for _ in range(self.restarts - 1):
                other = self._once(model, inputs, y, generator)
                worse = _is_worse(model, other, worst, y).reshape(-1, *[1] * (x.dim() - 1))
                worst = torch.where(worse, other, worst)
            return worst

    def _once(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        start = x
        if self.random_start:
            start = (x + random_in_ball(x, self.norm, self.epsilon, generator)).clamp(0, 1)
        step = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        return ascend(
            model,
            x,
            y,
            start,
            norm=self.norm,
            epsilon=self.epsilon,
            step_size=step,
            steps=self.steps,
        )


def _is_worse(model: nn.Module, other: Tensor, worst: Tensor, y: Tensor) -> Tensor:
    """Return where `other` misleads the model and `worst` does not, or with a higher loss."""
    wrong, loss = _badness(model, other, y)
    was_wrong, old_loss = _badness(model, worst, y)
    return (wrong & ~was_wrong) | ((wrong == was_wrong) & (loss > old_loss))


def _badness(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each input whether it is predicted wrongly, bool (n,), and its loss, (n,)."""
    with torch.no_grad():
        logits = model(x)
    return logits.argmax(1) != y, F.cross_entropy(logits, y, reduction="none")
