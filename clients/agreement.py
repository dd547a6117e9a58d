"""What an owner has agreed to: which games an agent plays, and what it answers in them.

The server's word counts for nothing here: whatever it asks for, only what belongs to the game that
was accepted is answered.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message

from clients.agent_file import AgentFile
from clients.data_attacks.private import Private
from learning.data.partitioning import contributed_rows
from learning.messages import CONTRIBUTE, REVEAL
from learning.method import kind_of
from scenarios.scenario import Scenario
from scenarios.text.quoting import nearest, shown

App = Callable[[Message, Context], Message]


class AgreementRefused(ValueError):
    """The agent does not play this game; one line that the server is told.

    Attributes:
        own: What its owner is told besides, such as where the data lie or what the attack is.
    """

    def __init__(self, line: str, own: str = "") -> None:
        super().__init__(line)
        self.own = own


class Owned:
    """An app that answers what its owner has agreed to, whatever it is asked for.

    Args:
        agent: Its owner's file.
        scenario: The game, which `agree` has let pass.
        app: Answers everything.
    """

    def __init__(self, agent: AgentFile, scenario: Scenario, app: App) -> None:
        self._agent, self._scenario, self._app = agent, scenario, app
        self._trainings = 0

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message.

        Raises:
            AgreementRefused: If it asks for more than was agreed to.
        """
        name, accept = self._agent.agent, self._agent.accept
        category, _, action = message.metadata.message_type.partition(".")
        if action == CONTRIBUTE and "pooled" not in self._scenario.games():
            raise AgreementRefused(f"{name} hands no rows over in a {self._scenario.game} game")
        if action == REVEAL and accept.max_run_time_share == 0:
            raise AgreementRefused(f"{name} hands nothing over for the referee to score it with")
        if category == "train":
            if "federated" not in self._scenario.games():
                raise AgreementRefused(f"{name} trains nothing in a {self._scenario.game} game")
            self._trainings += 1
            if self._trainings > accept.max_trainings:
                raise AgreementRefused(f"{name} has not accepted so many trainings in one game")
        return self._app(message, context)


def agree(agent: AgentFile, scenario: Scenario) -> None:
    """Refuse a game that the owner has not agreed to.

    Raises:
        AgreementRefused: If it is one; one line.
    """
    name, accept, model = agent.agent, agent.accept, kind_of(type(scenario.model))
    place = next((p for p in scenario.roster() if p.name == name), None)
    if accept.scenarios != "any" and scenario.name not in accept.scenarios:
        raise AgreementRefused(f"{name} has not accepted the scenario {shown(scenario.name)}")
    for game in scenario.games():
        if game not in accept.games:
            raise AgreementRefused(f"{name} has not accepted {game} games")
    if accept.models != "any" and model not in accept.models:
        raise AgreementRefused(f"{name} has not accepted models of the kind {model}")
    if place is None:
        known = [p.name for p in scenario.roster()]
        raise AgreementRefused(f"the scenario has no agent {shown(name)}{nearest(name, known)}")
    behaviour = place.group.behaviour
    if agent.play == "private":
        _agree_to_share(agent, scenario, behaviour)
    elif isinstance(behaviour, Private):
        raise AgreementRefused(f"{name} plays what a scenario gives it, and got private")
    elif not accept.files and {"path", "root"} & set(type(scenario.data).model_fields):
        kind = kind_of(type(scenario.data))
        raise AgreementRefused(
            f"{name} reads no files that a scenario names, and got data of kind {kind}"
        )
    _agree_to_length(agent, scenario, behaviour)


def _agree_to_share(agent: AgentFile, scenario: Scenario, behaviour: object) -> None:
    """Refuse a game that asks for other rows than the owner has agreed to."""
    name, accept = agent.agent, agent.accept
    if not isinstance(behaviour, Private):
        raise AgreementRefused(
            f"{name} plays with its own data, and the scenario gives it a behaviour: "
            "expected behaviour: {kind: private, rows: ...}, or play: scenario in agent.yaml"
        )
    if accept.max_rows is not None and behaviour.rows > accept.max_rows:
        raise AgreementRefused(
            f"{name} has accepted a share of {accept.max_rows} rows, the scenario asks for "
            f"{behaviour.rows}"
        )
    if 0 < accept.max_run_time_share < scenario.run_time_share:
        raise AgreementRefused(
            f"{name} hands at most {accept.max_run_time_share:g} of its rows over for the referee "
            f"to score it with, the scenario has run_time_share: {scenario.run_time_share:g}"
        )


def _agree_to_length(agent: AgentFile, scenario: Scenario, behaviour: object) -> None:
    """Refuse longer trainings than the owner has agreed to."""
    if "federated" not in scenario.games():
        return
    federation, most = scenario.federation, agent.accept.max_local_epochs
    epochs = float(federation.local_epochs)
    if federation.local_steps is not None and isinstance(behaviour, Private):
        rows = contributed_rows(behaviour.rows, scenario.run_time_share)
        epochs = federation.local_steps * scenario.training.batch_size / rows
    if epochs > most:
        raise AgreementRefused(
            f"{agent.agent} has accepted trainings of {most} epochs on its rows, the scenario has "
            f"{epochs:g}"
        )
