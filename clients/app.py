"""The agents' Flower `ClientApp`.

It answers three queries: ``query.hello`` (which agent is here), ``query.contribute`` (rows of the
contribution) and ``query.reveal`` (for the referee alone: run-time sets and what was poisoned).
Rows are asked for by range, so that a large share travels in several messages.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from scenarios.loader import parse

from clients.agents import Agents
from clients.behaviours.base import Play, Share
from learning.data.deal import Deal
from learning.wire import pack

Arrays = Mapping[str, NDArray[np.generic]]


def create_app(scenario_text: str | None = None, dealt: Deal | None = None) -> ClientApp:
    """Return the agents' app.

    Args:
        scenario_text: The scenario (YAML or JSON); by default the run's ``scenario`` setting.
        dealt: The dealt data, where this process already has it.
    """
    client = ClientApp()
    tables: dict[str, Agents] = {}

    def agents(context: Context) -> Agents:
        text = scenario_text or str(context.run_config["scenario"])
        if text not in tables:
            tables[text] = Agents(parse(text, "scenario"), dealt)
        return tables[text]

    def me(context: Context) -> str:
        table = agents(context)
        return table.names[int(context.node_config["partition-id"])]

    @client.query("hello")
    def hello(message: Message, context: Context) -> Message:
        seat = ConfigRecord({"partition-id": int(context.node_config["partition-id"])})
        return Message(RecordDict({"seat": seat}), reply_to=message)

    @client.query("contribute")
    def contribute(message: Message, context: Context) -> Message:
        _, play = agents(context).play(me(context))
        return Message(pack(_rows({"x": play.x, "y": play.y}, message)), reply_to=message)

    @client.query("reveal")
    def reveal(message: Message, context: Context) -> Message:
        share, play = agents(context).play(me(context))
        part = str(message.content.config_records["ask"]["part"])
        return Message(pack(_rows(revealed(share, play)[part], message)), reply_to=message)

    return client


def revealed(share: Share, play: Play) -> dict[str, Arrays]:
    """Return what an agent tells the referee, by part of the reveal.

    ``about``: counts and labels, int64 (4,): triggered inputs, poisoned rows, target and source
    (-1 for none). ``truth``: which rows are poisoned. ``run_time`` and ``triggered``: the
    run-time set. ``clean``: the poisoned rows as they were.
    """
    about = [
        len(play.targets),
        int(play.poisoned.sum()),
        -1 if play.target is None else play.target,
        -1 if play.source is None else play.source,
    ]
    return {
        "about": {"about": np.asarray(about, dtype=np.int64)},
        "truth": {"poisoned": play.poisoned},
        "run_time": {"x": share.x_run, "y": share.y_run},
        "triggered": {"x": play.x_triggered, "targets": play.targets},
        "clean": {"x": share.x_train[play.poisoned], "y": share.y_train[play.poisoned]},
    }


def _rows(arrays: Arrays, message: Message) -> Arrays:
    ask = message.content.config_records["ask"]
    start, stop = int(str(ask["start"])), int(str(ask["stop"]))
    return {name: array[start:stop] for name, array in arrays.items()}


app = create_app()
