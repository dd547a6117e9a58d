"""The agents' Flower `ClientApp`.

It answers three queries: ``query.hello`` (which agent is here), ``query.contribute`` (rows of the
contribution) and ``query.reveal`` (for the referee alone: run-time sets and what was poisoned, in
one reply).
Rows are asked for by range, so that a large share travels in several messages. In a federated
game it answers ``train.update``: the global model, trained on the agent's own rows; and
``train.craft``, which is asked of attackers whose scenario grants them others' updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import Tensor

from clients.agents import Agents
from clients.data_attacks.base import Contribution, Share
from clients.local_training import LocalTraining
from clients.request import Request, RuleKnowledge
from learning.data.partitioning import Partitioning
from learning.messages import (
    ABOUT,
    CLEAN,
    CONTRIBUTE,
    CRAFT,
    HELLO,
    PART,
    REVEAL,
    RUN_TIME,
    TRIGGERED,
    TRUTH,
    UPDATE,
    About,
    RoundInfo,
    RowsRequest,
    UpdateRequest,
    in_reveal,
)
from learning.weights import to_state
from learning.wire import (
    MEMORY,
    OWN,
    PREVIOUS,
    RECORD,
    SEEN,
    SHARES,
    pack,
    with_divergence,
)
from scenarios.loader import parse
from scenarios.participation import Participation
from scenarios.scenario import Scenario

Arrays = Mapping[str, NDArray[np.generic]]
Cohort = Callable[[Sequence[Message], Sequence[Context]], list[Message]]


def create_app(given: Scenario | str | None = None, dealt: Partitioning | None = None) -> ClientApp:
    """Return the agents' app.

    Args:
        given: The scenario, or its text (YAML or JSON); by default the run's setting ``scenario``.
        dealt: The dealt data, where this process already has it.
    """
    return create_apps(given, dealt)[0]


def create_apps(
    given: Scenario | str | None = None,
    dealt: Partitioning | None = None,
    *,
    seat: str | None = None,
    public: Scenario | None = None,
) -> tuple[ClientApp, Cohort]:
    """Return the agents' app, and a function that answers many ``train.update`` at once.

    Both give the same replies; a runtime whose agents live in one process may use the second.

    Args:
        given: The scenario, or its text (YAML or JSON); by default the run's setting ``scenario``.
        dealt: The dealt data, where this process already has it.
        seat: The one agent that is played here; by default whichever a message is for.
        public: The scenario as everybody has it, where `given` is an agent's own version.
    """
    client = ClientApp()
    tables: dict[str, _LocalAgents] = {}

    def table(context: Context) -> _LocalAgents:
        asked = str(context.run_config["scenario"]) if given is None else given
        key = asked if isinstance(asked, str) else ""
        if key not in tables:
            scenario = parse(asked, "scenario") if isinstance(asked, str) else asked
            tables[key] = _LocalAgents(scenario, dealt, public)
        return tables[key]

    def me(context: Context) -> str:
        if seat is not None:
            return seat
        return table(context).agents.names[int(context.node_config["partition-id"])]

    @client.query(HELLO)
    def hello(message: Message, context: Context) -> Message:
        place = ConfigRecord({"partition-id": int(context.node_config["partition-id"])})
        return Message(RecordDict({"seat": place}), reply_to=message)

    @client.query(CONTRIBUTE)
    def contribute(message: Message, context: Context) -> Message:
        _, play = table(context).agents.play(me(context))
        return Message(pack(_rows({"x": play.x, "y": play.y}, message)), reply_to=message)

    @client.query(REVEAL)
    def reveal(message: Message, context: Context) -> Message:
        share, play = table(context).agents.play(me(context))
        return Message(pack(_revealed_rows(share, play, message)), reply_to=message)

    @client.train(UPDATE)
    def update(message: Message, context: Context) -> Message:
        return cohort([message], [context])[0]

    @client.train(CRAFT)
    def craft(message: Message, context: Context) -> Message:
        received = _arrays(message)
        arrays = table(context).training.craft(
            _request(message, me(context), _Models()),
            _state(received[OWN]),
            _state(received[SEEN])[SEEN],
            RuleKnowledge.read(
                *(_state(received[n]) if n in received else {} for n in (MEMORY, SHARES))
            ),
        )
        return Message(pack(arrays), reply_to=message)

    def cohort(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        pairs, models = list(zip(messages, contexts, strict=True)), _Models()
        requests = [_request(message, me(context), models) for message, context in pairs]
        trained = table(contexts[0]).training.train_told(requests)
        return [
            Message(with_divergence(pack(arrays), diverged), reply_to=message)
            for message, (arrays, diverged) in zip(messages, trained, strict=True)
        ]

    return client, cohort


class _LocalAgents:
    """The agents of one scenario in this process, and how they train."""

    def __init__(
        self, scenario: Scenario, dealt: Partitioning | None, public: Scenario | None
    ) -> None:
        self._scenario, self._public = scenario, public or scenario
        self.agents = Agents(scenario, dealt)

    @cached_property
    def training(self) -> LocalTraining:
        data = self.agents.dealt().data
        return LocalTraining(
            self._scenario,
            self.agents,
            data.shape,
            data.classes,
            Participation(self._public),
        )


class _Models:
    """The models of one call: agents that were sent the same bytes start from the same tensors.

    Nobody writes to them: training and attacks work on copies.
    """

    def __init__(self) -> None:
        self._read: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def read(self, record: ArrayRecord) -> dict[str, Tensor]:
        """Return a record's model; the record must outlive this object, as its ids are keys."""
        key = tuple(id(array.data) for array in record.values())
        if key not in self._read:
            self._read[key] = _state(record)
        return self._read[key]


def _request(message: Message, agent: str, models: _Models) -> Request:
    asked = UpdateRequest.read(message.content.config_records["ask"])
    received = _arrays(message)
    return Request(
        agent=agent,
        round=asked.round,
        world=asked.world,
        start=models.read(received[RECORD]),
        previous=models.read(received[PREVIOUS]) if PREVIOUS in received else None,
        facts=asked.info or RoundInfo(),
    )


def _arrays(message: Message) -> dict[str, ArrayRecord]:
    # `content.array_records` would tie the records to themselves, and keep them in memory.
    items = message.content.items()
    return {name: record for name, record in items if isinstance(record, ArrayRecord)}


def _state(record: ArrayRecord) -> dict[str, Tensor]:
    return to_state({name: array.numpy() for name, array in record.items()})


def revealed(share: Share, play: Contribution) -> dict[str, Arrays]:
    """Return what an agent tells the referee, by part; see `learning.messages.reveal_columns`."""
    run_rows = np.arange(len(play.targets)) if play.run_rows is None else play.run_rows
    x_part = share.x_run[:0] if play.x_part is None else play.x_part
    about = About(
        triggered=len(play.targets),
        poisoned=int(play.poisoned.sum()),
        target=play.target,
        source=play.source,
        parts=len(x_part),
    )
    return {
        ABOUT: {"about": about.numbers()},
        TRUTH: {"poisoned": play.poisoned},
        RUN_TIME: {"x": share.x_run, "y": share.y_run},
        TRIGGERED: {"x": play.x_triggered, "targets": play.targets, "rows": run_rows},
        PART: {"x": x_part},
        CLEAN: {"x": share.x_train[play.poisoned], "y": share.y_train[play.poisoned]},
    }


def _revealed_rows(share: Share, play: Contribution, message: Message) -> Arrays:
    """Return the asked rows of each part, and in each message what is said about all of them."""
    parts = revealed(share, play)
    rows = {part: _rows(arrays, message) for part, arrays in parts.items()} | {ABOUT: parts[ABOUT]}
    return {in_reveal(part, n): a for part, arrays in rows.items() for n, a in arrays.items()}


def _rows(arrays: Arrays, message: Message) -> Arrays:
    asked = RowsRequest.read(message.content.config_records["ask"])
    return {name: array[asked.start : asked.stop] for name, array in arrays.items()}


app = create_app()
