"""ALIE with the z that moves the deployed rule the most.

Baruch et al., A Little Is Enough, NeurIPS 2019 (see `clients.update_attacks.alie`), with the factor
that byzfl's Optimal_ALittleIsEnough looks for, Allouah et al., Fixing by Mixing, AISTATS 2023
(arXiv 2302.01772); see `clients.update_attacks.parts.line_search` for what is maximised, and how.
The paper's z_max is among the factors tried, so it does at least as much as the plain attack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.alie import z_max
from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.line_search import strongest
from clients.update_attacks.parts.moments import deviation_of, mean_of
from clients.update_attacks.parts.vectors import fitting

if TYPE_CHECKING:
    from torch import Tensor


class AlieOptimised(UpdateAttack):
    """Hands over ``mean - z * std`` with the z from 0 to `most` that does the most damage.

    With no more to see than one update, the deviation is 0 and it hands that one over.
    """

    kind: Literal["alie_optimised"] = "alie_optimised"
    paper: ClassVar[str] = "Allouah et al., Fixing by mixing, AISTATS 2023; byzfl"
    knows_rule: ClassVar[bool] = True

    knowledge: Literal["group", "honest"] = Field(
        "honest",
        description="Whose updates give mean and deviation, and stand for the honest ones when "
        "the attacker plays the defender's rule.",
        json_schema_extra={"origin": "code"},
    )
    most: float = Field(
        10.0,
        gt=0,
        le=1e6,
        description="The largest z.",
        json_schema_extra={"origin": "ours"},
    )
    evaluations: int = Field(
        20,
        ge=6,
        le=10_000,
        description="How often the rule is played in a round to find z.",
        json_schema_extra={"origin": "code"},
    )

    def craft(self, view: View) -> Tensor:
        """Return ``mean - z * std``."""
        mean, deviation = mean_of(view.seen), deviation_of(view.seen)

        def shifted(z: float) -> Tensor:
            return fitting(mean - z * deviation, view.own.dtype)

        plain = z_max(view.participants, view.accomplices)
        return shifted(strongest(view, shifted, plain, self.most, self.evaluations))
