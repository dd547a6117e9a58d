"""Projected gradient descent (Madry et al. 2018): gradient steps, each cut back to the ball.

    x_{t+1} = clip(P_epsilon(x_t + step_size sign(grad_x L(f(x_t), y))), 0, 1)

By default it is a strong attack rather than the plain one of the paper: the step sizes of APGD and
two losses (Croce and Hein 2020), and of every input the worst point on the way counts, the step of
FGSM among them. So it never does less harm than FGSM of the same norm and radius, and its outcome
does not depend on the scale of the logits. An input that is surely misled is attacked no further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from learning.attacks.ascent import Ball, Inputs, Norm, Radius, evaluating, probe
from learning.attacks.base import InputAttack
from learning.attacks.fgsm import FGSM
from learning.attacks.losses import LossName, Objective, objectives
from learning.attacks.pace import Adaptive, ConstantPace, Pace, Schedule
from learning.attacks.worst import Worst

if TYPE_CHECKING:
    from torch import Tensor, nn


class PGD(InputAttack):
    """Several gradient steps, from random starts."""

    kind: Literal["pgd"] = "pgd"
    paper: ClassVar[str] = (
        "Madry et al. 2018, Towards deep learning models resistant to attacks; Croce and Hein "
        "2020, Reliable evaluation of adversarial robustness"
    )

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
        description="Steps for each loss and restart.",
        json_schema_extra={"origin": "paper"},
    )
    step_size: Radius | None = Field(
        None,
        description="Length of a step (the first, where the schedule is adaptive); null: 2.5 "
        "epsilon / steps where it is constant, as Madry et al. do, else 2 epsilon as in APGD.",
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
        description="Random starts for each loss; the worst case of each input counts.",
        json_schema_extra={"origin": "ours"},
    )
    loss: LossName = Field(
        "worst",
        description="What is climbed: cross_entropy (Madry et al.), margin (the largest other "
        "logit minus the true one), or worst: one ascent for each, cross-entropy on logits brought "
        "to one scale, and the worse of the two counts for each input.",
        json_schema_extra={"origin": "ours"},
    )
    schedule: Schedule = Field(
        "adaptive",
        description="adaptive: steps with momentum, halved where they stop raising the loss (APGD, "
        "Croce and Hein). constant: all of one length (Madry et al.).",
        json_schema_extra={"origin": "paper"},
    )
    keep: Literal["worst", "last"] = Field(
        "worst",
        description="Which point of an ascent counts: the worst on the way, the step of FGSM from "
        "the input among them, or the last one (Madry et al.).",
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
        parts += [] if self.loss == "worst" else [self.loss.replace("_", "-")]
        parts += [] if self.schedule == "adaptive" else ["constant steps"]
        parts += [] if self.keep == "worst" else ["last point"]
        return " ".join(parts)

    @property
    def ball(self) -> Ball:
        """See `InputAttack.ball`."""
        return Ball(self.norm, self.epsilon)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return adversarial inputs; see `InputAttack.perturb`."""
        with evaluating(model):
            worst = Worst(model, x.detach().clone(), y)
            if self.keep == "worst":
                FGSM(norm=self.norm, epsilon=self.epsilon).step(model, worst)
            for _ in range(self.restarts):
                for objective in objectives(self.loss):
                    self._climb(model, worst, objective, generator)
            return worst.at

    def _climb(
        self, model: nn.Module, worst: Worst, objective: Objective, generator: torch.Generator
    ) -> None:
        """Show `worst` the points of one ascent that count."""
        x, every = worst.all.x, self.keep == "worst"
        start = self.ball.random(x, generator) if self.random_start else x
        inputs = worst.standing() if every else worst.all
        at = start[inputs.rows]
        pace = self._pace(at)
        for _ in range(self.steps):
            if not len(at):
                return  # a model may not know what to do with no inputs
            logits, loss, gradient = probe(model, inputs, at, objective)
            if every:
                stands = worst.see(inputs, at, logits)
                inputs, at, loss, gradient = _kept(stands, inputs, at, loss, gradient)
                pace.take(stands)
            at = pace.after(inputs, at, loss, gradient)
        if len(at):
            with torch.no_grad():
                worst.see(inputs, at, model(at))

    def _pace(self, start: Tensor) -> Pace:
        if self.schedule == "constant":
            size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
            return ConstantPace(self.ball, size)
        size = 2 * self.epsilon if self.step_size is None else self.step_size
        return Adaptive(self.ball, size, self.steps, start)


def _kept(
    stands: Tensor, inputs: Inputs, at: Tensor, loss: Tensor, gradient: Tensor
) -> tuple[Inputs, Tensor, Tensor, Tensor]:
    if bool(stands.all()):
        return inputs, at, loss, gradient
    return inputs.take(stands), at[stands], loss[stands], gradient[stands]
