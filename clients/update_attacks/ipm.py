"""Inner product manipulation: against the mean of the honest updates.

Xie, Koyejo, Gupta, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation,
UAI 2019 (arXiv 1903.03936), section 4: all attackers hand over

    -epsilon * (the mean of the honest updates)

so that the inner product of the aggregate and the honest mean becomes negative. A small epsilon
passes Krum, which looks for a crowd; a large one is for rules that do not.

The mean gives each update the same weight. The attackers of the paper know the honest updates
(knowledge: honest). epsilon 0.1 is that of Karimireddy et al., ICLR 2022, and of their code; blades
has 1, byzfl 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.moments import mean_of
from clients.update_attacks.parts.vectors import fitting

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 0.1


class Ipm(UpdateAttack):
    """Hands over ``-epsilon`` times the mean of the updates it sees."""

    kind: Literal["ipm"] = "ipm"
    paper: ClassVar[str] = "Xie et al., Fall of empires, UAI 2019"

    knowledge: Literal["group", "honest"] = Field(
        "honest",
        description="Whose updates give the mean.",
        json_schema_extra={"origin": "paper"},
    )
    epsilon: float = Field(
        EPSILON,
        gt=0,
        le=1e6,
        description="Length of the turned mean, in lengths of the mean.",
        json_schema_extra={"origin": "code"},
    )

    def craft(self, view: View) -> Tensor:
        """Return the turned mean."""
        return fitting(-self.epsilon * mean_of(view.seen), view.own.dtype)
