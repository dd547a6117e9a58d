"""Weights that an attacker wants the defender's model to have, as fields of a scenario."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Goal(BaseModel):
    """Where in weights an attacker wants to go; `clients.data_attacks.parts.goal_weights` goes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class GradPC(Goal):
    """Normalised steps up the judges' loss, in a ball around a clean model's weights.

    Gradient-based parameter corruption: Sun et al. 2020; Lu, Kamath, Yu, ICML 2023.
    """

    kind: Literal["gradpc"] = "gradpc"
    radius: float = Field(
        0.5, gt=0, le=1e6, description="L2 distance from the clean weights.", examples=[0.5]
    )
    steps: int = Field(20, ge=1, le=100_000, description="Steps of length 1, each projected.")


class Natural(Goal):
    """One step along the inverse curvature: as much harm as GradPC for less gradient to cancel."""

    kind: Literal["natural"] = "natural"
    length: float = Field(
        2.0, gt=0, le=1e6, description="Length of the step, in solutions of the linear system."
    )
    damping: float = Field(2e-3, gt=0, le=1e6, description="Added to every eigenvalue.")
    iterations: int = Field(50, ge=1, le=10_000, description="Steps of conjugate gradients.")


class Flipped(Goal):
    """A model trained on the known rows, and on some of them once more with the mirrored label."""

    kind: Literal["label_flip"] = "label_flip"
    rate: float = Field(
        0.1, gt=0, le=1, description="Rows with false labels, as a share of the known rows."
    )


class Reach(Goal):
    """As far along the inverse curvature as the bounds on the poison allow."""

    kind: Literal["reach"] = "reach"
    damping: float = Field(2e-3, gt=0, le=1e6, description="Added to every eigenvalue.")
    iterations: int = Field(50, ge=1, le=10_000, description="Steps of conjugate gradients.")


AnyGoal = Annotated[GradPC | Natural | Flipped | Reach, Field(discriminator="kind")]
