"""A private agent: its own data, behaviour and seed in a game that the server's scenario describes.

Data, trigger, target and strategy stay here; what leaves is what the agent contributes, and the
run-time sets that it hands to the referee.
"""

from __future__ import annotations

import json

import numpy as np

from clients.agent_file import AgentFile
from clients.agreement import AgreementRefused, App, Owned, agree
from clients.app import create_apps
from clients.data_attacks.private import Private
from learning.data.base import DataError, DataSet
from learning.data.partitioning import Partitioning
from learning.seeds import numpy_generator
from scenarios.loader import parse
from scenarios.scenario import Scenario
from scenarios.text.errors import ScenarioError


def private_app(agent: AgentFile, scenario_text: str, table_text: str) -> App:
    """Return the app with which an agent plays one game.

    Args:
        agent: Its owner's file.
        scenario_text: The game's scenario, from the server.
        table_text: What the server tells of its data: JSON with `shape` and `class_names`.

    Raises:
        AgreementRefused: If the agent does not play this game; one line.
    """
    try:
        scenario = parse(scenario_text, "the server's scenario")
    except ScenarioError as error:
        line = f"expected a scenario that this Backfire knows: {error.lines[0]}"
        raise AgreementRefused(line) from error
    agree(agent, scenario)
    if agent.play == "scenario":
        device = {"compute": scenario.compute.model_copy(update={"device": agent.device})}
        own = scenario.model_copy(update=device)
        return Owned(agent, scenario, create_apps(own, seat=agent.agent)[0])
    own = _own_scenario(agent, scenario)
    dealt = _own_deal(agent, scenario, *_told(table_text))
    apps = create_apps(own, dealt, seat=agent.agent, public=scenario)
    return Owned(agent, scenario, apps[0])


def _own_scenario(agent: AgentFile, scenario: Scenario) -> Scenario:
    """Return the scenario as the agent plays it: its own behaviour, seed and device."""
    resolved = scenario.resolved()
    groups = [
        {"name": place.name, "count": 1, "behaviour": place.group.behaviour.model_dump(mode="json")}
        for place in scenario.roster()
    ]
    for group in groups:
        if group["name"] == agent.agent:
            group["behaviour"] = agent.behaviour.model_dump(mode="json")
            group["window"] = agent.window.model_dump(mode="json")
            if agent.update is not None and scenario.game != "pooled":
                group["update"] = agent.update.model_dump(mode="json")
    resolved |= {"agents": groups, "seed": agent.seed}
    resolved["federation"] = {**resolved["federation"], "malicious_share": None}
    resolved["poison_count"] |= {"reference_agents": None, "reference_rows": None}
    resolved["compute"] = {**resolved["compute"], "device": agent.device}
    try:
        return parse(json.dumps(resolved), "agent.yaml")
    except ScenarioError as error:
        line = f"{agent.agent} cannot play its part in this game"
        raise AgreementRefused(line, error.lines[0]) from error


def _own_deal(
    agent: AgentFile, scenario: Scenario, shape: tuple[int, int, int], names: tuple[str, ...]
) -> Partitioning:
    """Return the agent's share of its own data, as its part of a deal.

    Raises:
        AgreementRefused: If its data do not fit the game.
    """
    if agent.data is None:
        raise AgreementRefused(f"{agent.agent} has no data")
    try:
        data = agent.data.load()
    except DataError as error:
        raise AgreementRefused(f"{agent.agent} cannot read its data", str(error)) from error
    if data.shape != shape:
        raise AgreementRefused(
            f"expected inputs of the game's shape {shape}, {agent.agent} has {data.shape}"
        )
    if len(data.y_train) and int(data.y_train.max()) >= len(names):
        raise AgreementRefused(
            f"expected labels below {len(names)}, the game's classes, {agent.agent} has "
            f"{int(data.y_train.max())}"
        )
    behaviour = next(p.group.behaviour for p in scenario.roster() if p.name == agent.agent)
    rows = behaviour.rows if isinstance(behaviour, Private) else 0
    if len(data.y_train) < rows:
        raise AgreementRefused(
            f"the scenario asks {agent.agent} for a share of {rows} rows, it has fewer",
            f"{len(data.y_train)} rows",
        )
    drawn = numpy_generator(agent.seed, "private share", agent=agent.agent).choice(
        len(data.y_train), rows, replace=False
    )
    own = DataSet(data.x_train, data.y_train, data.x_test[:0], data.y_test[:0], names)
    share = np.sort(drawn).astype(np.int64)
    return Partitioning(own, share[:0], {agent.agent: share}, scenario.run_time_share)


def _told(table_text: str) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Return the game's input shape and class names, as the server tells them."""
    try:
        told = json.loads(table_text)
        channels, height, width = (int(size) for size in told["shape"])
        names = tuple(str(name) for name in told["class_names"])
    except (ValueError, KeyError, TypeError):
        raise AgreementRefused(
            "expected the game's input shape and classes from the server"
        ) from None
    return (channels, height, width), names
