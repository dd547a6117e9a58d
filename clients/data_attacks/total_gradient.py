"""Total gradient descent ascent: the attacker leads, and moves its rows along the total gradient.

S3 (Lu, Kamath, Yu, TMLR 2022), Algorithm 1, Eq. 15-17: it maximises the loss of its judges
at the model that is trained on its rows,

    D_x = grad_x l - grad_wx f (grad_ww f)^-1 grad_w l,

and between two of its steps a follower takes a few of the defender's steps. S3's public code solves
the normal equations with 16 iterations and no damping, whose direction is not the total gradient
(`benchmarks/poison_directions.py`); here it is conjugate gradients on a damped curvature.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from clients.data_attacks.parts.crafter import Crafter, CraftingProblem

if TYPE_CHECKING:
    from torch import Tensor


class TotalGradient(Crafter):
    """Crafts all its rows at once along the total gradient of its judges' loss (TGDA)."""

    kind: Literal["total_gradient"] = "total_gradient"
    paper: ClassVar[str] = "S3; Lu, Kamath, Yu 2022, Indiscriminate data poisoning attacks, TMLR"
    examples: ClassVar = (
        {"rounds": 3, "surrogate_epochs": 1, "surrogate_steps": 2},
        {"rounds": 2, "surrogate_epochs": 1, "form": "autoencoder", "pretrain_steps": 3},
    )

    form: Literal["pixels", "autoencoder"] = Field(
        "pixels",
        description="What is moved: the pixels, or a network that makes the rows (S3 4.1).",
        json_schema_extra={"origin": "ours"},
    )
    pretrain: bool = Field(
        True,
        description="Whether the network first learns to give clean rows back (S3 4.2).",
        json_schema_extra={"origin": "paper"},
    )
    pretrain_steps: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Steps of that, of 256 rows.",
        json_schema_extra={"origin": "ours"},
    )
    rounds: int = Field(
        120,
        ge=1,
        le=1_000_000,
        description="How often attacker and follower move in turn.",
        json_schema_extra={"origin": "ours"},
    )
    attacker_steps: int = Field(
        1,
        ge=1,
        le=1000,
        description="Attacker's steps in a round (S3's m).",
        json_schema_extra={"origin": "paper"},
    )
    surrogate_steps: int = Field(
        20,
        ge=0,
        le=100_000,
        description="Follower's steps in a round (S3's n); 0: it stays as it was pretrained.",
        json_schema_extra={"origin": "paper"},
    )
    leader: Literal["attacker", "defender"] = Field(
        "attacker",
        description="Who leads. Where the defender does, the attacker answers the follower as it "
        "is: `surrogate_steps` steps up the pool's loss for `attacker_steps` of the follower. S3 "
        "does not say what it plays there; its judges' loss has no gradient in the rows.",
        json_schema_extra={"origin": "paper"},
    )
    start: Literal["warm", "cold"] = Field(
        "warm",
        description="Follower of a round: goes on from the last, or from its pretraining.",
        json_schema_extra={"origin": "paper"},
    )
    objective: Literal["judges", "pool"] = Field(
        "judges",
        description="What the attacker maximises: the judges' loss, or the follower's own (S3's "
        "zero-sum game).",
        json_schema_extra={"origin": "paper"},
    )
    dynamics: Literal["tgda", "fr", "gdn"] = Field(
        "tgda",
        description="How the follower moves: by gradient steps (tgda); by those after a move along "
        "the ridge (fr); by one Newton step (gdn). S3, App. C.",
        json_schema_extra={"origin": "paper"},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=100,
        description="Step of a pixel by Adam; of the network's weights (S3: 0.01).",
        json_schema_extra={"origin": "ours"},
    )
    decay: Literal["none", "cosine"] = Field(
        "cosine",
        description="How the attacker's step shrinks, so that the follower catches up in the end.",
        json_schema_extra={"origin": "ours"},
    )
    solver: Literal["cg", "minres", "normal_equations", "neumann"] = Field(
        "cg",
        description="How the curvature is inverted; normal_equations is S3's public code.",
        json_schema_extra={"origin": "paper"},
    )
    iterations: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Its steps; each goes on from the last solution (S3's code: 16, from zero).",
        json_schema_extra={"origin": "ours"},
    )
    damping: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="Added to every eigenvalue; by default 1 / (learning rate x defender's steps), "
        "which is what so many steps do not resolve (S3's code: 0).",
        json_schema_extra={"origin": "deduced"},
    )
    curvature: Literal["gauss_newton", "hessian"] = Field(
        "gauss_newton",
        description="Which curvature; Gauss-Newton has no negative directions.",
        json_schema_extra={"origin": "ours"},
    )
    curvature_rows: int = Field(
        6000,
        ge=1,
        le=10_000_000,
        description="Clean rows that it is computed on, at most.",
        json_schema_extra={"origin": "ours"},
    )
    radius: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Largest change of a pixel; by default no bound but the data's range.",
        json_schema_extra={"origin": "paper"},
    )
    followers: int = Field(
        1,
        ge=1,
        le=64,
        description="Followers whose directions are averaged.",
        json_schema_extra={"origin": "ours"},
    )
    renew: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="After how many rounds one follower, in turn, is trained anew; by default "
        "never.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_form(self) -> TotalGradient:
        if self.form == "autoencoder" and self.radius is not None:
            raise ValueError("expected form: pixels with a radius, got autoencoder")
        return self

    def craft(self, problem: CraftingProblem) -> Tensor:
        """Play the rounds; see `Crafter.craft`."""
        from clients.data_attacks.parts.pursuit import Pursuit, Tactics  # imports torch

        tactics = Tactics(**{one.name: getattr(self, one.name) for one in fields(Tactics)})
        pursuit = Pursuit(tactics, problem)
        for number in range(self.rounds):
            pursuit.take_turns(number)
        return pursuit.leader.rows
