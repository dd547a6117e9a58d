"""Min-max: rows are put, some at a time, where the loss of a model trained so far is largest.

Steinhardt, Koh, Liang, NeurIPS 2017; Koh, Steinhardt, Liang, Machine Learning 2022. With a target
it is their i-min-max: rows must also have a small loss at a decoy, so that a filter that trusts a
model like the decoy lets them pass. Where they solve a quadratic program for a hinge loss and one
random wrong class, softmax regression here goes by the best corner of the range, over all wrong
classes; other models, and all with a decoy, by signed gradient steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem
from clients.data_attacks.parts.goals import AnyGoal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.data_attacks.parts.worst_points import Decoy


class MinMaxRows(Crafter):
    """Puts rows where a follower's loss is largest; with `target`, small at a decoy (i-min-max)."""

    kind: Literal["min_max_rows"] = "min_max_rows"
    paper: ClassVar[str] = "Koh, Steinhardt, Liang 2022, Stronger data poisoning attacks ..., ML"
    examples: ClassVar = (
        {"rounds": 3, "blocks": 2, "surrogate_epochs": 1, "surrogate_steps": 2},
        {
            "rounds": 2,
            "blocks": 2,
            "surrogate_epochs": 1,
            "surrogate_steps": 2,
            "climbs": 3,
            "target": {"kind": "label_flip"},
        },
    )

    target: AnyGoal | None = Field(
        None,
        description="The decoy at which rows are to have a small loss; by default none.",
        json_schema_extra={"origin": "paper"},
    )
    threshold: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Largest loss of a row at the decoy.",
        json_schema_extra={"origin": "ours"},
    )
    rounds: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="How often rows are placed; every row is once in `blocks` rounds.",
        json_schema_extra={"origin": "ours"},
    )
    blocks: int = Field(
        30,
        ge=1,
        le=1_000_000,
        description="Parts into which the rows fall; a part is placed at once (att_rep copies).",
        json_schema_extra={"origin": "ours"},
    )
    surrogate_steps: int = Field(
        20,
        ge=0,
        le=100_000,
        description="Follower's steps in a round.",
        json_schema_extra={"origin": "ours"},
    )
    climbs: int = Field(
        50,
        ge=1,
        le=100_000,
        description="Signed gradient steps to a place, where it has no closed form.",
        json_schema_extra={"origin": "ours"},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Length of such a step; it shrinks to a tenth.",
        json_schema_extra={"origin": "ours"},
    )

    def craft(self, problem: CraftingProblem) -> Tensor:
        """Place rows and let the follower follow; see `Crafter.craft`."""
        from clients.data_attacks.parts.follower import Follower  # imports torch
        from clients.data_attacks.parts.goal_weights import GoalWeights
        from clients.data_attacks.parts.worst_points import Decoy

        decoy = None
        if self.target is not None:
            decoy = Decoy(GoalWeights(problem).wanted(self.target), self.threshold)
        x, y, known_x, known_y = problem.on_device(
            problem.x, problem.y, problem.known_x, problem.known_y
        )
        follower = Follower(
            problem.surrogate(),
            problem.recipe,
            known_x,
            known_y,
            problem.share,
            problem.generator("follower/batches"),
        )
        for number in range(self.rounds):
            part = slice(number % self.blocks, None, self.blocks)
            if len(y[part]):
                x[part] = self._placed(follower.module, x[part], y[part], decoy)
                follower.steps(self.surrogate_steps, x, y)
        return x

    def _placed(self, module: nn.Module, x: Tensor, y: Tensor, decoy: Decoy | None) -> Tensor:
        """Return rows of the largest loss found."""
        from clients.data_attacks.parts.worst_points import climbed, margin_corner  # imports torch

        corner = margin_corner(module, x, y) if decoy is None else None
        if corner is not None:
            return corner
        return climbed(module, x, y, self.climbs, self.step, decoy)
