"""Unlearnable rows: noise that leaves nothing to learn, or that a model mistakes.

Error-minimising noise (Huang et al. 2021) shrinks the loss of the attacker's own rows, so that a
model that has them need not learn what they show. Error-maximising noise (Fowl et al. 2021) lets
their loss grow at a clean model, so that they teach the features of other classes. Both keep the
labels by default and change each pixel by no more than a radius. They are made for defenders most
of whose rows are noisy; at a share of 3 % S3 finds hardly any damage (its Table 12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem

if TYPE_CHECKING:
    from torch import Tensor

    from clients.data_attacks.parts.noise import NoiseBall


class Unlearnable(Crafter):
    """Adds noise of a bounded size to its rows, to each its own (sample-wise)."""

    kind: Literal["unlearnable"] = "unlearnable"
    paper: ClassVar[str] = (
        "Huang et al. 2021, Unlearnable examples, ICLR (minimise); Fowl et al. 2021, Adversarial "
        "examples make strong poisons, NeurIPS (maximise)"
    )
    examples: ClassVar = (
        {"rounds": 2, "model_steps": 2, "steps": 3},
        {"objective": "maximise", "steps": 3, "surrogate_epochs": 1},
    )

    objective: Literal["minimise", "maximise"] = Field(
        "minimise",
        description="`minimise`: the loss of its rows at a fresh model that is trained on these "
        "noisy rows alone meanwhile; `maximise`: their loss at a surrogate trained on the clean "
        "rows it knows.",
        json_schema_extra={"origin": "paper"},
    )
    radius: float = Field(
        8 / 255,
        gt=0,
        le=1,
        description="Largest change of a pixel.",
        json_schema_extra={"origin": "code"},
    )
    steps: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Steps of the noise in a round.",
        json_schema_extra={"origin": "code"},
    )
    step: float = Field(
        0.8 / 255,
        gt=0,
        le=1,
        description="Length of such a step of a pixel.",
        json_schema_extra={"origin": "code"},
    )
    model_steps: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Batches of the model before them; `minimise` only.",
        json_schema_extra={"origin": "code"},
    )
    stop_error: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of noisy rows that the model may get wrong when it is done; `minimise` "
        "only.",
        json_schema_extra={"origin": "code"},
    )
    rounds: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Rounds at most, whatever the model still gets wrong (the published code knows "
        "no limit); `minimise` only.",
        json_schema_extra={"origin": "ours"},
    )

    def craft(self, problem: CraftingProblem) -> Tensor:
        """Return the noisy rows; see `Crafter.craft`."""
        from clients.data_attacks.parts.noise import NoiseBall  # imports torch

        x, y = problem.on_device(problem.x, problem.y)
        ball = NoiseBall.around(x, self.radius)
        if self.objective == "maximise":
            return ball.moved(problem.surrogate(), x, y, self.step, self.steps)
        return self._minimised(problem, ball, x, y)

    def _minimised(self, problem: CraftingProblem, ball: NoiseBall, x: Tensor, y: Tensor) -> Tensor:
        from clients.data_attacks.parts.noise import FreshLearner

        learner = FreshLearner(problem.recipe, len(y), x.device)
        for _ in range(self.rounds):
            learner.steps(self.model_steps, x, y)
            x = ball.moved(learner.module, x, y, -self.step, self.steps)
            if learner.error(x, y) <= self.stop_error:
                break
        return x
