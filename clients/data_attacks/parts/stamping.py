"""Any trigger of a scenario, and how an agent stamps its own on inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.data_attacks.base import AgentContext
from learning.method import one_of
from learning.pool import Floats
from learning.triggers.base import Trigger

if TYPE_CHECKING:
    AnyTrigger = Trigger
else:
    AnyTrigger = one_of(Trigger, "learning.triggers")


def stamped(trigger: Trigger, x: Floats, seat: AgentContext, purpose: str) -> Floats:
    """Return inputs `x` (n, C, H, W) with the agent's trigger.

    Args:
        trigger: The family of patterns.
        x: Inputs, left alone.
        seat: The agent's place.
        purpose: ``"train"`` or ``"run"``; keys the patterns that are drawn anew for each row,
            and those of which an agent trains a part.

    Raises:
        ValueError: If the trigger does not fit the inputs; one line.
    """
    channels, height, width = x.shape[1:]
    pattern = trigger.draw((channels, height, width), len(x), seat.trigger_key(purpose))
    return pattern.stamp(x)


def stamped_part(trigger: Trigger, x: Floats, seat: AgentContext) -> Floats | None:
    """Return inputs `x` with the agent's own part of the trigger, None if it has but a whole."""
    return stamped(trigger, x, seat, "train") if trigger.in_parts else None
