"""Whether poisoners that aim at accuracy hinder each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.damage.hits import POINTS as UNIT
from server.referee.scores.base import COMBINED, POINTS, Bounds, Computed, GroupScore

if TYPE_CHECKING:
    from server.referee.facts import GroupFacts


class DamageInterference(GroupScore):
    """What attackers cost each by itself, summed, beyond what they cost together."""

    kind: Literal["damage_interference"] = "damage_interference"
    paper: ClassVar[str] = "none: Backfire's own"
    definition: ClassVar[str] = (
        "damage_alone summed over all attackers of the game, minus damage, test input by test "
        "input; above zero they hinder each other, below zero they help; only where each was "
        "played alone"
    )
    head: ClassVar[str] = "damage interference"
    interval: ClassVar[str] = COMBINED
    bounds: ClassVar[Bounds] = POINTS
    unit: ClassVar[str] = UNIT
    rank: ClassVar[int] = 62
    of_damage: ClassVar[bool] = True

    def compute(self, facts: GroupFacts) -> Computed:
        """Return the difference in points; None where the group is not all who attack."""
        return None if facts.damage is None else facts.damage.interference(facts.names)
