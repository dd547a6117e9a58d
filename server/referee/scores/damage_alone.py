"""What one attacker costs in clean accuracy by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.scores.base import GAP, PAIRED_INPUTS, AgentScore, Bounds, Computed
from server.referee.scoring.scores import difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.referee.facts import AgentFacts, GroupFacts
    from server.referee.results import GroupValue, ScoreValue


class DamageAlone(AgentScore):
    """Clean accuracy that an attacker costs where it alone attacks."""

    kind: Literal["damage_alone"] = "damage_alone"
    paper: ClassVar[str] = "none: Backfire's own"
    definition: ClassVar[str] = (
        "clean accuracy lost in the game that this attacker attacks alone against the game without "
        "attackers, test input by test input, asked for by the attacker itself"
    )
    head: ClassVar[str] = "damage alone"
    interval: ClassVar[str] = PAIRED_INPUTS
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = GAP
    rank: ClassVar[int] = 60
    of_damage: ClassVar[bool] = True

    def compute(self, facts: AgentFacts) -> Computed:
        """Return the paired difference; None of agents that were not played alone."""
        return None if facts.alone is None else difference([facts.alone])

    def combine(self, values: Sequence[ScoreValue], group: GroupFacts) -> GroupValue | None:
        """Return the mean over the agents that were played alone, input by input."""
        if group.damage is None:
            return super().combine(values, group)
        return group.damage.mean_alone(group.names)
