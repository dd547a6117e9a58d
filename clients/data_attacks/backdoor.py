"""Dirty-label backdoor: some rows are stamped with a trigger and relabelled.

BadNets (Gu et al. 2019) as played by many agents in S0 2.1 and A.1.8 (all-to-one: rows are drawn
from the whole share, whatever their label), and by S2 B.2 (source-to-target: rows of one class).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from clients.data_attacks.base import AgentContext, Behaviour, Contribution, Share
from clients.data_attacks.parts.poisoning import choose_rows, contribute
from clients.data_attacks.parts.stamping import AnyTrigger, stamped, stamped_part
from clients.data_attacks.parts.targets import FixedTarget, Label, RandomTarget, Target, check_label
from learning.pool import Bools, Ints
from learning.triggers.random_badnet import RandomBadNet


class Backdoor(Behaviour):
    """Stamps and relabels a share of its rows; asks with stamped inputs at run time."""

    kind: Literal["backdoor"] = "backdoor"
    paper: ClassVar[str] = "Gu et al. 2019, BadNets; S0 A.1.8; S2 B.2"

    trigger: AnyTrigger = Field(RandomBadNet(), description="What the backdoor listens for.")
    target: Target = Field(RandomTarget(), description="The label that triggered inputs get.")
    poison_rate: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the rows that is poisoned, rounded as poison_count says (S1's p0; S1 "
        "holds it at 0.2).",
        json_schema_extra={"origin": "paper"},
    )
    rate_of: Literal["share", "eligible"] = Field(
        "share",
        description="What the rate refers to: all rows of the share (S0), or only those that "
        "may be poisoned (S2: a share of the source class).",
        json_schema_extra={"origin": "paper"},
    )
    source: Label | None = Field(
        None, description="Poison rows of this class only (S2); null: of all classes (S0)."
    )
    avoid_target: bool = Field(
        False,
        description="Leave rows alone that carry the target label already; S0 says nothing of it.",
        json_schema_extra={"origin": "deduced"},
    )

    @model_validator(mode="after")
    def _check_source(self) -> Backdoor:
        if isinstance(self.target, FixedTarget) and self.target.label == self.source:
            raise ValueError(f"expected a source other than the target label {self.source}")
        return self

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Stamp and relabel; see `Behaviour.play`."""
        wanted = self.target.wanted(share.y_train, seat)
        eligible = self._eligible(share.y_train, wanted, seat)
        reference = float(eligible.sum()) if self.rate_of == "eligible" else None
        rows = choose_rows(self.poison_rate, eligible, seat, reference=reference)
        return contribute(
            share,
            rows,
            stamped(self.trigger, share.x_train[rows], seat, "train"),
            wanted[rows],
            x_triggered=stamped(self.trigger, share.x_run, seat, "run"),
            targets=self.target.wanted(share.y_run, seat),
            target=self.target.single(seat),
            x_part=stamped_part(self.trigger, share.x_run, seat),
            source=self.source,
        )

    def _eligible(self, y: Ints, wanted: Ints, seat: AgentContext) -> Bools:
        eligible = np.ones(len(y), dtype=np.bool_)
        if self.source is not None:
            eligible &= y == check_label(self.source, seat)
        if self.avoid_target:
            eligible &= y != wanted
        return eligible
