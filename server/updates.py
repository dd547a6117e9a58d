"""Collecting and admitting the model updates of a round.

An update is refused unless it has the keys, shapes and dtypes of the model and is finite; weights
in the aggregate come from the registered share, so nothing else of a reply is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from learning.weights import Layout, to_state
from learning.wire import Expected, Refusal, unpack
from server.exchange import Ask, Exchange
from server.results import Quarantine

# Far above any weight that a model trains to; sums and squares of it are finite.
_LARGEST = 1e12

Side = tuple[str, str, str]
State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Collected:
    """The replies of a round.

    Attributes:
        admitted: For each side, the admitted agents' trained models, in scenario order.
        quarantined: One entry for each refused reply.
    """

    admitted: dict[Side, dict[str, State]]
    quarantined: list[Quarantine]


def collect_updates(
    exchange: Exchange,
    models: Mapping[Side, ArrayRecord],
    sampled: Mapping[Side, Sequence[str]],
    number: int,
    layout: Layout,
) -> Collected:
    """Send each side's model to its sampled agents and admit what comes back.

    Args:
        exchange: The conversation.
        models: The global model of each side, by (defender, world, federation).
        sampled: Each side's agents of the round, in scenario order.
        number: The round.
        layout: What a model looks like.
    """
    sides = {f"{position}": key for position, key in enumerate(models)}
    expected = {name: Expected(layout.dtypes[name], shape) for name, shape in layout.shapes.items()}
    got: dict[Side, dict[str, State]] = {key: {} for key in models}
    refused: list[Quarantine] = []

    def read(ask: Ask, content: RecordDict) -> None:
        state = to_state(unpack(content, expected))
        for name, value in state.items():
            if not bool(torch.isfinite(value).all()):
                raise Refusal(
                    "non_finite", f"expected finite weights, got NaN or infinity in {name}"
                )
            if value.numel() and float(value.abs().max()) > _LARGEST:
                raise Refusal("range", f"expected weights up to {_LARGEST:g}, got more in {name}")
        got[sides[str(ask.fields["side"])]][ask.agent] = state

    def refuse(ask: Ask, refusal: Refusal) -> None:
        defender = sides[str(ask.fields["side"])][0] if "side" in ask.fields else ""
        message = f"round {number}, {defender}: {refusal.message}"
        refused.append(
            Quarantine(agent=ask.agent, code=refusal.code, message=message, stage="update")
        )

    asks = [
        Ask(
            agent,
            "update",
            {"round": number, "world": sides[side][1], "side": side},
            category="train",
            arrays=models[sides[side]],
        )
        for side in sides
        for agent in sampled[sides[side]]
    ]
    exchange.ask(asks, read, refuse)
    ordered = {
        key: {name: states[name] for name in sampled[key] if name in states}
        for key, states in got.items()
    }
    return Collected(ordered, refused)
