"""Whose trainings diverged, and when.

Of its training in a federated game an agent says so itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from scenarios.scenario import Scenario
from server.games.federated_state import Diverged
from server.games.game import Key
from strategies.pipeline import Outcome

# So many agents are named.
NAMED = 5


def with_round(before: Diverged, found: Mapping[str, int], number: int) -> Diverged:
    """Return what is known after a round.

    Args:
        before: What was known.
        found: The epoch in which an agent's training diverged in this round.
        number: The round.
    """
    after = dict(before)
    for agent, epoch in found.items():
        first, at, rounds = before.get(agent, (number, epoch, 0))
        after[agent] = (first, at, rounds + 1)
    return after


def told_divergence(diverged: Diverged, scenario: Scenario) -> list[str]:
    """Return the line that says who diverged and when; none where nobody did."""
    agents = [place.name for place in scenario.roster() if place.name in diverged]
    if not agents:
        return []
    steps = scenario.federation.local_steps
    said = []
    for agent in agents[:NAMED]:
        first, epoch, rounds = diverged[agent]
        when = f"within {steps} steps" if steps is not None else f"in epoch {epoch}"
        many = f" and in {rounds - 1} more" if rounds > 1 else ""
        said.append(f"{agent} {when} of round {first}{many}")
    more = f", and {len(agents) - NAMED} more agents" if agents[NAMED:] else ""
    kept = "it started from" if steps is not None else "before that epoch"
    return [
        f"local training diverged (loss or weights not finite): {', '.join(said)}{more}; the "
        f"weights {kept} were handed over; a smaller training.optimizer.lr may help"
    ]


def told_of_defenders(outcomes: Mapping[Key, Outcome]) -> list[str]:
    """Return a line for each defender of whom models diverged, in which worlds and when."""
    found: dict[str, dict[str, int]] = {}
    for (name, world), outcome in outcomes.items():
        models = [outcome.predictor.shared, *outcome.predictor.by_agent.values()]
        epochs = [one.diverged for some in models for one in some if one.diverged]
        if epochs:
            found.setdefault(name, {})[world] = min(epochs)
    return [
        f"training of the defender {name} diverged, in epoch {min(worlds.values())} at the "
        f"earliest, in {', '.join([*worlds][:NAMED])}"
        + (f" and {len(worlds) - NAMED} more worlds" if len(worlds) > NAMED else "")
        for name, worlds in found.items()
    ]
