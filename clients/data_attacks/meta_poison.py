"""MetaPoison: the gradient through few steps of many models of different ages.

W. R. Huang et al., "MetaPoison: practical general-purpose clean-label data poisoning", NeurIPS
2020, a baseline of S3 (Table 3: 24 models, K = 2 steps, 60 rounds). There the poison aims at single
targets; what S3 puts in their place is not said, and is deduced to be the judges' loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem

if TYPE_CHECKING:
    from torch import Tensor


class MetaPoison(Crafter):
    """Moves its rows up the judges' loss a few steps ahead, on average over models in training."""

    kind: Literal["meta_poison"] = "meta_poison"
    paper: ClassVar[str] = "Huang et al. 2020, NeurIPS, Algorithm 1; S3, Table 3"
    examples: ClassVar = ({"rounds": 2, "models": 2, "unroll": 1, "surrogate_epochs": 1},)

    models: int = Field(
        24,
        ge=1,
        le=10_000,
        description="Models, which begin at ages spread over a whole training.",
        json_schema_extra={"origin": "paper"},
    )
    unroll: int = Field(
        2,
        ge=1,
        le=1000,
        description="Steps of training that are differentiated (K).",
        json_schema_extra={"origin": "paper"},
    )
    rounds: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="Steps of the rows; after each every model is trained for an epoch, and one "
        "that has had all its epochs begins anew.",
        json_schema_extra={"origin": "paper"},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=100,
        description="Step of a pixel by Adam; it shrinks by a cosine.",
        json_schema_extra={"origin": "ours"},
    )
    training_rows: int = Field(
        1000,
        ge=1,
        le=10_000_000,
        description="Clean rows of the steps that are differentiated, at most.",
        json_schema_extra={"origin": "ours"},
    )
    radius: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Largest change of a pixel; by default no bound but the data's range.",
        json_schema_extra={"origin": "paper"},
    )

    def craft(self, problem: CraftingProblem) -> Tensor:
        """Look ahead from all models; see `Crafter.craft`."""
        from clients.data_attacks.parts.unrolling import Unrolling  # imports torch

        return Unrolling(
            problem,
            models=self.models,
            rounds=self.rounds,
            unroll=self.unroll,
            step=self.step,
            rows=self.training_rows,
            radius=self.radius,
            staggered=True,
        ).crafted()
