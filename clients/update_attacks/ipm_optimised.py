"""Inner product manipulation with the epsilon that moves the deployed rule the most.

Xie et al., Fall of Empires, UAI 2019 (see `clients.update_attacks.ipm`), with the factor that
byzfl's Optimal_InnerProductManipulation looks for, Allouah et al., Fixing by Mixing, AISTATS 2023
(arXiv 2302.01772); see `clients.update_attacks.parts.line_search` for what is maximised, and how.
The plain attack's default epsilon is among the factors tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.ipm import EPSILON
from clients.update_attacks.parts.line_search import strongest
from clients.update_attacks.parts.moments import mean_of
from clients.update_attacks.parts.vectors import fitting

if TYPE_CHECKING:
    from torch import Tensor


class IpmOptimised(UpdateAttack):
    """Hands over ``-epsilon * mean`` with the epsilon from 0 to `most` that does the most damage.

    At epsilon 0 that is an update of 0: among few attackers it can be the best there is.
    """

    kind: Literal["ipm_optimised"] = "ipm_optimised"
    paper: ClassVar[str] = "Allouah et al., Fixing by mixing, AISTATS 2023; byzfl"
    knows_rule: ClassVar[bool] = True

    knowledge: Literal["group", "honest"] = Field(
        "honest",
        description="Whose updates give the mean, and stand for the honest ones when the attacker "
        "plays the defender's rule.",
        json_schema_extra={"origin": "code"},
    )
    most: float = Field(
        10.0,
        gt=0,
        le=1e6,
        description="The largest epsilon.",
        json_schema_extra={"origin": "ours"},
    )
    evaluations: int = Field(
        20,
        ge=6,
        le=10_000,
        description="How often the rule is played in a round to find epsilon.",
        json_schema_extra={"origin": "code"},
    )

    def craft(self, view: View) -> Tensor:
        """Return the turned mean."""
        mean = mean_of(view.seen)

        def turned(epsilon: float) -> Tensor:
            return fitting(-epsilon * mean, view.own.dtype)

        return turned(strongest(view, turned, EPSILON, self.most, self.evaluations))
