"""Collecting and admitting the model updates of a round.

An update is refused unless it has the keys, shapes and dtypes of the model, is finite and in range,
and has no variance and no counter below 0. Weights in the aggregate come from the registered share,
so nothing else of a reply is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from learning.messages import RoundInfo, UpdateRequest
from learning.weights import WeightLayout, to_state
from learning.wire import RECORD, Expected, Refusal, take_divergence, unpack
from server.referee.results import Quarantine
from server.wire.exchange import Ask, Exchange

# Far above any weight that a model trains to; sums and squares of it are finite.
_LARGEST = 1e12

Side = tuple[str, str, str]
State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class UpdateAsk:
    """One request of a round.

    Attributes:
        side: For which side.
        agent: Whom to ask.
        action: ``update`` or ``craft``.
        records: What it is sent, by name: the side's model and, to attackers, what they may know.
        info: What an attacker is told of the round; None for everybody else.
    """

    side: Side
    agent: str
    action: str
    records: Mapping[str, ArrayRecord]
    info: RoundInfo | None = None


@dataclass(frozen=True, eq=False)
class Collected:
    """The replies of a round.

    Attributes:
        admitted: For each side, the admitted agents' trained models, in scenario order.
        quarantined: One entry for each refused reply.
        diverged: The epoch in which an agent's training diverged, by its own word; the first, where
            it trained for several sides.
    """

    admitted: dict[Side, dict[str, State]]
    quarantined: list[Quarantine]
    diverged: dict[str, int] = field(default_factory=dict)


def collect_updates(
    exchange: Exchange, asks: Sequence[UpdateAsk], number: int, layout: WeightLayout
) -> Collected:
    """Ask agents for their updates and admit what comes back.

    Args:
        exchange: The conversation.
        asks: The requests, each agent of a side once, in scenario order.
        number: The round.
        layout: What a model looks like.
    """
    sides = list(dict.fromkeys(ask.side for ask in asks))
    position = {side: at for at, side in enumerate(sides)}
    expected = {name: Expected(layout.dtypes[name], shape) for name, shape in layout.shapes.items()}
    got: dict[Side, dict[str, State]] = {side: {} for side in sides}
    refused: list[Quarantine] = []
    diverged: dict[str, int] = {}

    def read(ask: Ask, content: RecordDict) -> None:
        epoch = take_divergence(content)
        state = to_state(unpack(content, expected))
        check_update(state, layout)
        got[sides[UpdateRequest.read(ask.fields).side]][ask.agent] = state
        if epoch:
            diverged[ask.agent] = min(epoch, diverged.get(ask.agent, epoch))

    def refuse(ask: Ask, refusal: Refusal) -> None:
        defender = sides[UpdateRequest.read(ask.fields).side][0] if "side" in ask.fields else ""
        message = f"round {number}, {defender}: {refusal.message}"
        refused.append(
            Quarantine(agent=ask.agent, code=refusal.code, message=message, stage="update")
        )

    requests = [
        Ask(
            ask.agent,
            ask.action,
            UpdateRequest(number, ask.side[1], position[ask.side], ask.info).told(),
            category="train",
            arrays=ask.records[RECORD],
            more={name: record for name, record in ask.records.items() if name != RECORD},
        )
        for ask in asks
    ]
    exchange.ask(requests, read, refuse)
    order: dict[Side, dict[str, State]] = {side: {} for side in sides}
    for ask in asks:
        if ask.agent in got[ask.side]:
            order[ask.side][ask.agent] = got[ask.side][ask.agent]
    return Collected(order, refused, diverged)


def check_update(state: State, layout: WeightLayout) -> None:
    """Refuse a model that is not finite, far out of range, or impossible.

    Args:
        state: The model.
        layout: Which of its entries are variances and counters.

    Raises:
        Refusal: With the code ``non_finite`` or ``range``.
    """
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise Refusal("non_finite", f"expected finite weights, got NaN or infinity in {name}")
        if value.numel() and _largest(value) > _LARGEST:
            raise Refusal("range", f"expected weights up to {_LARGEST:g}, got more in {name}")
    for what, names in (("variances", layout.variances), ("counters", layout.counters)):
        for name in names:
            if state[name].numel() and (least := state[name].min().item()) < 0:
                raise Refusal("range", f"expected {what} of 0 or more, got {least:g} in {name}")


def _largest(value: Tensor) -> float:
    """Return the largest absolute value; of whole numbers without overflow."""
    low, high = value.aminmax()
    return max(-float(low), float(high))
