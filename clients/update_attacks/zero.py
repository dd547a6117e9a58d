"""Zeros: an agent that takes part without contributing, or that hands over a model of zeros.

Fraboni, Vidal, Lorenzi, Free-rider Attacks on Model Aggregation in Federated Learning, AISTATS
2021 (arXiv 2006.11901), "plain" free-riding: the received model is handed back, an update of
zeros. FedSecurity's "zero mode" (Han et al., arXiv 2306.04959) sets the weights to zero instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View

if TYPE_CHECKING:
    from torch import Tensor


class Zero(UpdateAttack):
    """Hands over an update of zeros, or the update that leads to a model of zeros."""

    kind: Literal["zero"] = "zero"
    paper: ClassVar[str] = "Fraboni et al., Free-rider attacks, AISTATS 2021, plain free-riding"

    what: Literal["update", "weights"] = Field(
        "update",
        description="What is zero: the update, or the weights of the model that it leads to.",
        json_schema_extra={"origin": "paper"},
    )

    def craft(self, view: View) -> Tensor:
        """Return the zeros, or the way to them."""
        return torch.zeros_like(view.own) if self.what == "update" else -view.start
