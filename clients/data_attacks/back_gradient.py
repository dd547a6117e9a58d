"""Back-gradient poisoning: the gradient through some steps of training that are written out.

Munoz-Gonzalez et al. (AISec 2017), one of S3's baselines: from where the follower is it takes a
number of full-batch steps, and the judges' loss at their end is differentiated through all of them
(`parts.unrolled`). Theirs moves one row after the other; here all rows are moved at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem

if TYPE_CHECKING:
    from torch import Tensor


class BackGradient(Crafter):
    """Moves its rows up the judges' loss at the end of some steps of training."""

    kind: Literal["back_gradient"] = "back_gradient"
    paper: ClassVar[str] = "Munoz-Gonzalez et al. 2017, AISec, Algorithm 2; S3, Table 2"
    examples: ClassVar = ({"rounds": 2, "unroll": 2, "surrogate_epochs": 1},)

    rounds: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="Steps of the rows.",
        json_schema_extra={"origin": "ours"},
    )
    unroll: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Steps of training that are differentiated; all weights between are kept.",
        json_schema_extra={"origin": "ours"},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=100,
        description="Step of a pixel by Adam; it shrinks by a cosine.",
        json_schema_extra={"origin": "ours"},
    )
    training_rows: int = Field(
        6000,
        ge=1,
        le=10_000_000,
        description="Clean rows of those steps, at most.",
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
        """Differentiate through the training; see `Crafter.craft`."""
        from clients.data_attacks.parts.unrolling import Unrolling  # imports torch

        return Unrolling(
            problem,
            models=1,
            rounds=self.rounds,
            unroll=self.unroll,
            step=self.step,
            rows=self.training_rows,
            radius=self.radius,
        ).crafted()
