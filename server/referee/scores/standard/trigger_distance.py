"""How far an attacker's trigger lies from that of the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import Quantity, TriggerDistance
from server.referee.scores.base import NO_INTERVAL, AgentScore, Bounds, Computed

if TYPE_CHECKING:
    from server.referee.facts import AgentFacts


class _OfTrigger(AgentScore):
    """A distance of the triggers, which is known of an agent's record, whatever is played."""

    interval: ClassVar[str] = NO_INTERVAL
    bounds: ClassVar[Bounds] = (0.0, 2.0)

    def compute(self, facts: AgentFacts) -> Computed:
        """See `AgentScore.compute`."""
        apart = None if facts.record is None else facts.record.trigger_distance
        value = None if apart is None else self.part(apart)
        return None if value is None else Quantity(value=value)

    def part(self, apart: TriggerDistance) -> float | None:
        """Return the distance that the score is."""
        raise NotImplementedError


class TriggerShapeDistance(_OfTrigger):
    """How far the triggers' shapes lie apart."""

    kind: Literal["trigger_shape_distance"] = "trigger_shape_distance"
    definition: ClassVar[str] = (
        "cosine distance of the mask of the agent's trigger from that of the scenario's first "
        "agent with one (S0 A.2.5)"
    )
    head: ClassVar[str] = "trigger shape distance"
    rank: ClassVar[int] = 62
    headline: ClassVar[bool] = False

    def part(self, apart: TriggerDistance) -> float | None:
        """See `_OfTrigger.part`."""
        return apart.shape


class TriggerShapeColourDistance(_OfTrigger):
    """How far the triggers' shapes and colours lie apart."""

    kind: Literal["trigger_shape_colour_distance"] = "trigger_shape_colour_distance"
    definition: ClassVar[str] = (
        "cosine distance of the masked values of the agent's trigger from those of the scenario's "
        "first agent with one (S0 A.2.5)"
    )
    head: ClassVar[str] = "trigger shape and colour distance"
    rank: ClassVar[int] = 63
    headline: ClassVar[bool] = False

    def part(self, apart: TriggerDistance) -> float | None:
        """See `_OfTrigger.part`."""
        return apart.shape_colour
