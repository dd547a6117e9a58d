"""What an attack in a federated game costs the attacker."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import Quantity
from server.referee.scores.base import AMOUNT, NO_INTERVAL, AgentScore, Bounds, Computed

if TYPE_CHECKING:
    from server.referee.facts import AgentFacts


class AttackEpochs(AgentScore):
    """Epochs that an attacker trains in order to attack."""

    kind: Literal["attack_epochs"] = "attack_epochs"
    definition: ClassVar[str] = (
        "epochs over its own rows that an attacker trains in all rounds in which it cheats, by "
        "its attack's own number where that has one; an epoch is a fraction where steps are "
        "trained"
    )
    head: ClassVar[str] = "attack epochs"
    interval: ClassVar[str] = NO_INTERVAL
    bounds: ClassVar[Bounds] = AMOUNT
    unit: ClassVar[str] = "epochs"
    rank: ClassVar[int] = 120

    def compute(self, facts: AgentFacts) -> Computed:
        """See `AgentScore.compute`."""
        own = facts.history
        return None if own is None else Quantity(value=len(own.rounds) * own.epochs, unit=self.unit)


class AttackRows(AgentScore):
    """Rows that an attacker trains on in order to attack."""

    kind: Literal["attack_rows"] = "attack_rows"
    definition: ClassVar[str] = (
        "rows that an attacker trains on in all rounds in which it cheats, each as often as it is "
        "used, poisoned or not"
    )
    head: ClassVar[str] = "attack rows"
    interval: ClassVar[str] = NO_INTERVAL
    bounds: ClassVar[Bounds] = AMOUNT
    unit: ClassVar[str] = "rows"
    rank: ClassVar[int] = 121

    def compute(self, facts: AgentFacts) -> Computed:
        """See `AgentScore.compute`."""
        own = facts.history
        return None if own is None else Quantity(value=len(own.rounds) * own.seen, unit=self.unit)
