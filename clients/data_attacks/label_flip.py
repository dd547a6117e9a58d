"""Label flipping: wrong labels on clean inputs, no trigger (Biggio et al. 2011; Fang et al. 2020).

`mirror` is the ``9 - y`` of ten classes, ``K - 1 - y``; with an odd number of classes it leaves
the middle one as it is. Lu, Kamath and Yu (TMLR 2022) print ``10 - y``, which makes a 0 no class:
`mirror_mod` is the reading ``(10 - y) mod 10``, ``(K - y) mod K``, which leaves 0 and, with an even
number of classes, K / 2 as they are; `mirror` is the other. `worst` is an informed flip: of its own
rows the agent takes those that a model is surest of which it trains on its clean share as the
defender trains, and gives each the label that this model holds for least likely.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clients.data_attacks.base import (
    AgentContext,
    Aim,
    Behaviour,
    Contribution,
    Grant,
    Share,
)
from clients.data_attacks.parts.labels import by_rule
from clients.data_attacks.parts.poisoning import choose_rows, contribute, rows_to_poison
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
    mode: Literal["random", "next", "mirror", "mirror_mod", "worst"] = Field(
        "random",
        description="`random`: any other class, uniformly; `next`: y + 1 mod K; `mirror`: "
        "K - 1 - y; `mirror_mod`: (K - y) mod K; `worst`: those rows that a surrogate, trained on "
        "its own rows as the defender trains, is surest of, get the label that it holds for least "
        "likely.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def aim(self) -> Aim:
        """Damage: a flipped label asks for no answer of its own."""
        return "damage"

    @property
    def grant(self) -> Grant | None:
        """How the defender trains, for the surrogate of `worst`; no rows beside its own."""
        return Grant() if self.mode == "worst" else None

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Flip labels; see `Behaviour.play`.

        Raises:
            ValueError: If there is one class only, or the surrogate of `worst` diverges.
        """
        if self.mode == "worst":
            rows, labels = self._informed(share, seat)
            return contribute(share, rows, share.x_train[rows], labels)
        rows = choose_rows(self.poison_rate, np.ones(len(share.y_train), np.bool_), seat)
        y = share.y_train[rows]
        return contribute(share, rows, share.x_train[rows], self._flipped(y, seat))

    def _flipped(self, y: Ints, seat: AgentContext) -> Ints:
        if self.mode in ("mirror", "mirror_mod", "next"):
            return by_rule(self.mode, y, seat.classes)
        _check_classes(seat)
        shift = seat.generator("flipped labels").integers(1, seat.classes, size=len(y))
        return (y + shift) % seat.classes

    def _informed(self, share: Share, seat: AgentContext) -> tuple[Ints, Ints]:
        """Return the rows that the agent relabels, and their labels."""
        _check_classes(seat)
        count = rows_to_poison(self.poison_rate, len(share.y_train), seat)
        if not count:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if seat.known is None:
            raise ValueError("label_flip worst needs to be told how the defender trains")
        # These import torch, which the other modes do without.
        from clients.data_attacks.parts.follower import trained
        from clients.data_attacks.parts.informed import easiest

        model = trained(seat.known.recipe, share.x_train, share.y_train)
        return easiest(model, share.x_train, share.y_train, count)


def _check_classes(seat: AgentContext) -> None:
    if seat.classes < 2:
        raise ValueError("expected at least two classes to flip labels, got one")
