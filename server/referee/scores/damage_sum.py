"""What the attackers of a group cost in clean accuracy each by itself, summed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.damage.hits import POINTS as UNIT
from server.referee.scores.base import COMBINED, POINTS, Bounds, Computed, GroupScore

if TYPE_CHECKING:
    from server.referee.facts import GroupFacts


class DamageSum(GroupScore):
    """The damages alone of all attackers of a group, summed."""

    kind: Literal["damage_sum"] = "damage_sum"
    paper: ClassVar[str] = "none: Backfire's own"
    definition: ClassVar[str] = (
        "damage_alone summed over all agents of a group, where each was played alone and models do "
        "not differ by asking agent"
    )
    head: ClassVar[str] = "damage alone, summed"
    interval: ClassVar[str] = COMBINED
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = POINTS
    unit: ClassVar[str] = UNIT
    rank: ClassVar[int] = 61
    of_damage: ClassVar[bool] = True

    def compute(self, facts: GroupFacts) -> Computed:
        """Return the sum in points; None where an agent was not played alone."""
        return None if facts.damage is None else facts.damage.summed(facts.names)
