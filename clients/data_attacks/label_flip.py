"""Label flipping: wrong labels on clean inputs, no trigger (Biggio et al. 2011; Fang et al. 2020).

`mirror` is the ``9 - y`` of ten classes, ``K - 1 - y``; with an odd number of classes it leaves
the middle one as it is.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clients.data_attacks.base import AgentContext, Aim, Behaviour, Contribution, Share
from clients.data_attacks.parts.poisoning import choose_rows, contribute
from learning.pool import Ints


class LabelFlip(Behaviour):
    """Relabels a share of its rows; it has no backdoor and asks nothing at run time."""

    kind: Literal["label_flip"] = "label_flip"
    paper: ClassVar[str] = (
        "Biggio et al. 2011, Support vector machines under adversarial label noise; Fang et al. "
        "2020, Local model poisoning attacks (mirror)"
    )

    poison_rate: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the rows whose label is flipped, rounded as poison_count says.",
        json_schema_extra={"origin": "ours"},
    )
    mode: Literal["random", "next", "mirror"] = Field(
        "random",
        description="`random`: any other class, uniformly; `next`: y + 1 mod K; `mirror`: "
        "K - 1 - y.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def aim(self) -> Aim:
        """Damage: a flipped label asks for no answer of its own."""
        return "damage"

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Flip labels; see `Behaviour.play`."""
        rows = choose_rows(self.poison_rate, np.ones(len(share.y_train), np.bool_), seat)
        y = share.y_train[rows]
        return contribute(share, rows, share.x_train[rows], self._flipped(y, seat))

    def _flipped(self, y: Ints, seat: AgentContext) -> Ints:
        if self.mode == "mirror":
            return seat.classes - 1 - y
        if self.mode == "next":
            return (y + 1) % seat.classes
        if seat.classes < 2:
            raise ValueError("expected at least two classes to flip labels, got one")
        shift = seat.generator("flipped labels").integers(1, seat.classes, size=len(y))
        return (y + shift) % seat.classes
