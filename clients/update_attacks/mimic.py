"""Mimic: every attacker hands over the update of one and the same honest agent.

Karimireddy, He, Jaggi, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing, ICLR 2022
(arXiv 2006.09365), section 4.1 and appendix: the copies are no outliers, and give one agent's data
more weight than they should have. The agent copied is the one farthest along the direction z in
which honest updates differ most,

    z = argmax_|z|=1 sum_i (z.(x_i - mean))^2

which the paper learns by Oja's method over the rounds of a warm-up (its code: one round unless
told otherwise), and then keeps the agent that it has found.

Ours keeps nothing between rounds: it takes the exact principal direction of this round's updates,
so that the agent copied can change from round to round. It takes the largest ``|z.(x_i - mean)|``,
since the sign of z is not defined; the code takes the largest ``z.x_i``, for a z of random sign.
byzfl's Mimic copies the agent of a given number: `pick: first` is its number 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.moments import mean_of, products_about

if TYPE_CHECKING:
    from torch import Tensor

# Projections that differ by no more are the same but for rounding.
SAME = 1e-9


class Mimic(UpdateAttack):
    """Hands over one of the updates it sees, the same for all accomplices."""

    kind: Literal["mimic"] = "mimic"
    paper: ClassVar[str] = "Karimireddy et al., Byzantine-robust learning via bucketing, ICLR 2022"

    knowledge: Literal["group", "honest"] = Field(
        "honest",
        description="Whose updates there are to copy.",
        json_schema_extra={"origin": "paper"},
    )
    pick: Literal["first", "principal"] = Field(
        "principal",
        description="Copy the first in scenario order, or the one farthest along the direction in "
        "which this round's updates differ most.",
        json_schema_extra={"origin": "deduced"},
    )

    def craft(self, view: View) -> Tensor:
        """Return a copy of the update picked."""
        picked = 0 if self.pick == "first" else farthest_along_principal(view.seen)
        return view.seen[picked].to(view.own.dtype, copy=True)


def farthest_along_principal(seen: Tensor) -> int:
    """Return the row of (k, d) farthest from the mean along the principal direction.

    The first of those that tie: of two rows, and of rows that are all the same, row 0. The
    projections of the rows are the first eigenvector of their (k, k) Gram matrix about the mean,
    times the root of its eigenvalue.
    """
    centre = mean_of(seen)
    products = products_about(centre, seen, torch.zeros_like(centre))[:-1, :-1]
    largest = products.diagonal().max()
    if largest <= 0:
        return 0
    away = torch.linalg.eigh(products / largest).eigenvectors[:, -1].abs()
    return int((away >= away.max() * (1 - SAME)).nonzero()[0])
