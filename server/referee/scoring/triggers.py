"""How far the attackers' triggers lie from each other.

S0 (Backdoors that backfire) A.2.5 gives the cosine distance of each attacker's trigger from that of
Attacker 1, for its shape and for "shape+colour", and sets target labels against it.
"""

from __future__ import annotations

import numpy as np

from learning.pool import Floats
from learning.triggers.base import Pattern, Trigger, TriggerKey
from scenarios.scenario import Scenario
from scenarios.schema import AgentSpec
from server.referee.results import AgentRecord, TriggerDistance


def with_distances(
    roster: tuple[AgentRecord, ...], scenario: Scenario, shape: tuple[int, int, int]
) -> tuple[AgentRecord, ...]:
    """Return the roster with each trigger's distance from that of the first agent that has one.

    Args:
        roster: All agents in scenario order.
        scenario: Says which triggers they have; those of private agents are not known.
        shape: Of the inputs, (C, H, W).
    """
    drawn = ((place.name, _pattern(place, scenario.seed, shape)) for place in scenario.roster())
    patterns = {name: pattern for name, pattern in drawn if pattern is not None}
    if not patterns:
        return roster
    first = next(iter(patterns.values()))
    return tuple(
        record.model_copy(update={"trigger_distance": distance(first, patterns[record.name])})
        if record.name in patterns
        else record
        for record in roster
    )


def distance(one: Pattern, other: Pattern) -> TriggerDistance:
    """Return the distance of two patterns; of patterns with many rows that of the first ones."""
    return TriggerDistance(
        shape=cosine_distance(one.mask[0], other.mask[0]),
        shape_colour=cosine_distance((one.mask * one.value)[0], (other.mask * other.value)[0]),
    )


def cosine_distance(one: Floats, other: Floats) -> float | None:
    """Return ``1 - cos`` of two arrays of one shape, 0..2; None where one of them is all zero."""
    a, b = (np.asarray(array, np.float64).ravel() for array in (one, other))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(1 - a @ b / norm, 0, 2)) if norm else None


def _pattern(place: AgentSpec, seed: int, shape: tuple[int, int, int]) -> Pattern | None:
    trigger = getattr(place.group.behaviour, "trigger", None)
    if not isinstance(trigger, Trigger):
        return None
    try:
        return trigger.draw(shape, 1, TriggerKey(seed, place.name, place.group.name, place.index))
    except ValueError:  # it does not fit these inputs; the agent's own failure says so
        return None
