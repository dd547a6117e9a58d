"""Sign flipping: the trained update, turned around and scaled.

Li et al., RSA: Byzantine-robust stochastic aggregation methods for distributed learning from
heterogeneous datasets, AAAI 2019 (arXiv 1811.03761), section 5.2: "sign-flipping attack", the true
value multiplied by a negative constant (-4 there for their sum, -1 in most later work).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.vectors import times

if TYPE_CHECKING:
    from torch import Tensor


class SignFlip(UpdateAttack):
    """Hands over ``-scale`` times its own update."""

    kind: Literal["sign_flip"] = "sign_flip"
    paper: ClassVar[str] = "Li et al., RSA, AAAI 2019, 5.2"

    scale: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Factor of the turned update.",
        json_schema_extra={"origin": "ours"},
    )

    def craft(self, view: View) -> Tensor:
        """Return the turned update."""
        return times(view.own, -self.scale)
