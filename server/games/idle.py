"""What of a scenario had no effect in a game, in sentences: a report would show a quiet attacker.

Only what was meant to act is told: an attacker whose rate is 0 poisons nothing by intention. All of
it is the referee's knowledge, and is said after the game.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from learning.method import Method
from learning.training.spec import TrainingSpec
from scenarios.participation import Participation
from scenarios.scenario import Scenario
from scenarios.schema import AgentGroup, AgentSpec
from server.games.session import GameSession
from server.referee.results import AgentRecord


def idle(scenario: Scenario, table: GameSession) -> tuple[str, ...]:
    """Return a line for each part of a scenario that did nothing.

    Args:
        scenario: One game's: pooled or federated.
        table: What the agents handed over, and what the referee was told.
    """
    records = {record.name: record for record in table.roster if record.admitted}
    attackers = [p for p in scenario.roster() if p.group.malicious and p.name in records]
    tests: tuple[tuple[str, Callable[[AgentSpec], bool]], ...] = (
        ("no row poisoned, as the rate comes to none of its rows",
         lambda place: _poisons_nothing(place.group, records[place.name])),
        ("the trigger changes none of its run-time inputs", lambda place: _unseen(place, table)),
        ("no run-time input to ask with", lambda place: _asks_nothing(place, table)),
        ("all of its run-time inputs are of the target label, so that its ASR counts none",
         lambda place: _nothing_to_win(place, table)),
        ("it cheated in no round, as it was sampled for none in its window",
         _never_cheats(scenario)),
    )  # fmt: skip
    return (
        *_unread_epochs(scenario),
        *(f"{who}: {told}" for told, test in tests for who in _who(list(filter(test, attackers)))),
    )


def _unread_epochs(scenario: Scenario) -> Iterator[str]:
    """Say that a number of epochs was not read: rounds have their own."""
    epochs, read = scenario.training.epochs, any(map(_crafts, scenario.agents))
    if scenario.game == "federated" and epochs != TrainingSpec().epochs and not read:
        yield (
            f"training.epochs = {epochs} was not read: in a federated game agents train "
            f"federation.local_epochs = {scenario.federation.local_epochs} in each round"
        )


def _crafts(group: AgentGroup) -> bool:
    """Return whether its agents train surrogates, as long as the defender would."""
    return getattr(group.behaviour, "grant", None) is not None


def _who(hit: list[AgentSpec]) -> Iterator[str]:
    """Yield for each group the agents of it that are meant."""
    for group in dict.fromkeys(place.group.name for place in hit):
        names = [place.name for place in hit if place.group.name == group]
        count = next(place.group.count for place in hit if place.group.name == group)
        yield group if count == 1 else f"{group}, {len(names)} of {count} agents ({names[0]}, ...)"


def _poisons_nothing(group: AgentGroup, record: AgentRecord) -> bool:
    """Return whether an agent that cheats with its data did not, though its rate is above 0."""
    wanted = getattr(group.behaviour, "poison_rate", 1.0) > 0
    cheats = bool(getattr(group.behaviour, "malicious", True)) and not record.claimed
    return cheats and wanted and record.poisoned_rows == 0


def _unseen(place: AgentSpec, table: GameSession) -> bool:
    if not isinstance(getattr(place.group.behaviour, "trigger", None), Method):
        return False
    own = table.sealed.run_time.get(place.name)
    if own is None or not len(own.x_triggered):
        return False
    return bool(np.array_equal(own.x_triggered, own.x[own.triggered_rows]))


def _asks_nothing(place: AgentSpec, table: GameSession) -> bool:
    own = table.sealed.run_time.get(place.name)
    return own is not None and _has_target(place) and not len(own.targets)


def _nothing_to_win(place: AgentSpec, table: GameSession) -> bool:
    """Return whether an agent with a target asks with inputs that carry it already, all of them."""
    own = table.sealed.run_time.get(place.name)
    if own is None or not _has_target(place) or not len(own.targets):
        return False
    return bool((own.targets == own.y[own.triggered_rows]).all())


def _has_target(place: AgentSpec) -> bool:
    return getattr(place.group.behaviour, "target", None) is not None


def _never_cheats(scenario: Scenario) -> Callable[[AgentSpec], bool]:
    if "federated" not in scenario.games():
        return lambda place: False
    played, rounds = Participation(scenario), range(1, scenario.federation.rounds + 1)
    return lambda place: (
        not any(
            place.name in played.of(number) and played.cheats(place, number) for number in rounds
        )
    )
