"""Gradient Canceling: rows that hold the defender's model at weights of the attacker's choice.

Lu, Kamath, Yu, ICML 2023. Two necessary conditions say how much poison a target takes
(`learning.curvature.reachability`); they are asked before an iteration is spent. The public code
leaves the range of the inputs and cancels the first layer only; here rows stay in the range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem
from clients.data_attacks.parts.goals import AnyGoal, GradPC
from learning.method import kind_of

if TYPE_CHECKING:
    from torch import Tensor


class GradientCanceling(Crafter):
    """Crafts all its rows at once, so that their gradient cancels that of the clean rows."""

    kind: Literal["gradient_canceling"] = "gradient_canceling"
    paper: ClassVar[str] = "Lu, Kamath, Yu 2023, Exploring the limits of model-targeted ..., ICML"
    examples: ClassVar = (
        {"steps": 3, "surrogate_epochs": 1},
        {"steps": 3, "surrogate_epochs": 1, "target": {"kind": "natural"}, "labels": "next"},
        {"steps": 2, "surrogate_epochs": 1, "target": {"kind": "label_flip"}, "layers": "first"},
        {"steps": 2, "surrogate_epochs": 1, "target": {"kind": "reach"}},
    )

    target: AnyGoal = Field(
        GradPC(),
        description="Weights at which it wants to hold the defender's model.",
        json_schema_extra={"origin": "paper"},
    )
    shrink: bool = Field(
        True,
        description="Whether a target out of reach is moved towards the clean model until no bound "
        "rules it out; else it is refused.",
        json_schema_extra={"origin": "ours"},
    )
    layers: Literal["all", "first"] = Field(
        "all",
        description="Whose gradient is cancelled; `first`: of the first layer (public code).",
        json_schema_extra={"origin": "ours"},
    )
    steps: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Steps of the rows.",
        json_schema_extra={"origin": "code"},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=100,
        description="Step of a pixel by Adam; it shrinks along a cosine.",
        json_schema_extra={"origin": "ours"},
    )
    tolerance: float = Field(
        1e-3,
        ge=0,
        lt=1,
        description="Share of the clean gradient left at which it stops.",
        json_schema_extra={"origin": "ours"},
    )
    radius: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Largest change of a pixel; by default no bound but the data's range.",
        json_schema_extra={"origin": "ours"},
    )

    def craft(self, problem: CraftingProblem) -> Tensor:
        """Cancel; see `Crafter.craft`."""
        from clients.data_attacks.parts.cancellation import cancelled  # imports torch
        from clients.data_attacks.parts.goal_weights import GoalWeights
        from clients.data_attacks.parts.leaders import Pixels

        try:
            goal = GoalWeights(problem, self.layers).within_reach(self.target, self.shrink)
        except ValueError as error:
            raise ValueError(f"{kind_of(type(self))}: {error}") from error
        x, y = problem.on_device(problem.x, problem.y)
        leader = Pixels(x, self.step, self.radius)
        return cancelled(goal, leader, y, self.steps, self.tolerance)[0]
