"""When each attacker of a federated game attacked, and what that took."""

from __future__ import annotations

from scenarios.participation import Participation
from scenarios.scenario import Scenario
from scenarios.schema import AgentSpec
from server.referee.facts import AttackHistory
from server.referee.scoring.detection import CheatingAgents


def attack_history(scenario: Scenario, rows: dict[str, int]) -> dict[str, AttackHistory]:
    """Return the rounds in which each malicious agent was asked for an update and cheated.

    Args:
        scenario: A federated game.
        rows: Rows that each agent trains on.
    """
    participation, cheating = Participation(scenario), CheatingAgents(scenario)
    attacked: dict[str, list[int]] = {p.name: [] for p in scenario.roster() if p.group.malicious}
    for number in range(1, scenario.federation.rounds + 1):
        for name in cheating.among(participation.of(number), number):
            attacked[name].append(number)
    return {
        place.name: AttackHistory(
            tuple(attacked[place.name]), *_effort(scenario, place, rows.get(place.name, 0))
        )
        for place in scenario.roster()
        if place.name in attacked
    }


def _effort(scenario: Scenario, place: AgentSpec, rows: int) -> tuple[float, int]:
    """Return epochs over its rows, and rows seen, of an attacker in one round in which it attacks.

    An attack that trains by its own number of `epochs` trains these, as everybody else does by
    the scenario's epochs or steps.
    """
    federation = scenario.federation
    own = place.group.update.model_dump().get("epochs") if place.group.update else None
    if own is None and federation.local_steps is not None:
        seen = federation.local_steps * min(scenario.training.batch_size, rows)
        return (seen / rows if rows else 0.0), seen
    epochs = federation.local_epochs if own is None else int(own)
    return float(epochs), epochs * rows
