"""Rows crafted anew in each round against the broadcast model, and trained on as if they were own.

S3 (Lu, Kamath, Yu, TMLR 2022), Eq. 15-17, has a pooled data set, and a surrogate in the place of
the victim. In rounds the victim is broadcast: the attacker knows its weights w, trains no
surrogate, and moves its rows along the total gradient of its clean rows' loss l at w,

    D_x = - grad_wx f (G + damping)^-1 grad_w l,

G the Gauss-Newton matrix of the pool's loss f. Its update is what honest training on these rows
gives: nothing is scaled, so a rule meets an update of usual length. Each round starts from the rows
of its contribution, since an attack keeps nothing between rounds.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.data_attacks.parts.labels import by_rule
from clients.update_attacks.base import Before, LocalPlan, UpdateAttack, View
from clients.update_attacks.local_rows import LocalRows

if TYPE_CHECKING:
    from torch import Tensor


class Recraft(UpdateAttack):
    """Trains on rows that it moves in each round along the total gradient at the global model."""

    kind: Literal["recraft"] = "recraft"
    paper: ClassVar[str] = (
        "Backfire's own, after S3; Lu, Kamath, Yu 2022, Indiscriminate data poisoning attacks, TMLR"
    )
    aim: ClassVar[Literal["damage"]] = "damage"
    needs_rows: ClassVar[bool] = True
    examples: ClassVar = ({"steps": 2}, {"steps": 1, "labels": "mirror", "radius": 0.1})

    steps: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Steps of the rows in a round.",
        json_schema_extra={"origin": "ours"},
    )
    step: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Step of a pixel by Adam.",
        json_schema_extra={"origin": "ours"},
    )
    labels: Literal["keep", "mirror", "mirror_mod", "next"] = Field(
        "keep",
        description="Labels that the rows go by: those contributed, or changed by a rule as in "
        "label_flip.",
        json_schema_extra={"origin": "paper"},
    )
    iterations: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Conjugate gradient steps for each step of the rows; each goes on from the "
        "last solution.",
        json_schema_extra={"origin": "ours"},
    )
    damping: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Added to every eigenvalue; by default 1 / (learning rate x steps of a round), "
        "which is what one round does not resolve.",
        json_schema_extra={"origin": "deduced"},
    )
    radius: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Largest change of a pixel; by default no bound but the data's range.",
        json_schema_extra={"origin": "paper"},
    )

    def plan(self, before: Before) -> LocalPlan:
        """Craft this round's rows; see `recrafting.recrafted`."""
        from clients.update_attacks.parts.recrafting import Moves, recrafted  # imports torch

        known = before.known_rows()
        y = by_rule(self.labels, known.contributed.y, known.classes)
        moves = Moves(**{one.name: getattr(self, one.name) for one in fields(Moves)})
        return LocalPlan(rows=LocalRows(recrafted(moves, known, y), y))

    def craft(self, view: View) -> Tensor:
        """Return the update as it was trained."""
        return view.own.clone()
