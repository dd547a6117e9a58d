"""Gradient matching: the poison's gradient points where the judges' loss grows.

Geiping et al. (ICLR 2021) align the gradient of poison rows with that of a target by the cosine,
at a trained model whose weights stay; Fowl et al. (2021) turn it on the model's accuracy. S3 names
it as future work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem

if TYPE_CHECKING:
    from torch import Tensor


class GradientMatching(Crafter):
    """Moves its rows so that a step on them is a step up the judges' loss."""

    kind: Literal["gradient_matching"] = "gradient_matching"
    paper: ClassVar[str] = "Geiping et al. 2021, ICLR, eq. 3; Fowl et al. 2021"
    examples: ClassVar = ({"rounds": 3, "surrogate_epochs": 1},)

    rounds: int = Field(
        250,
        ge=1,
        le=1_000_000,
        description="Steps of the rows.",
        json_schema_extra={"origin": "code"},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=100,
        description="Step of a pixel by Adam; it shrinks by a cosine.",
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
        """Align the gradients; see `Crafter.craft`."""
        from clients.data_attacks.parts.matching import matched  # imports torch

        return matched(problem, self.rounds, self.step, self.radius)
