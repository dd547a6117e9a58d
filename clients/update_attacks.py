"""How an agent plays its update attack: what it is told becomes a view, its update a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from clients.request import Request
from clients.updates.base import Before, UpdateAttack, View
from learning.seeds import derived_seed
from learning.weights import Layout, State
from scenarios.schema import Place, Scenario
from strategies.aggregation.base import Context
from strategies.aggregation.chain import aggregate
from strategies.aggregation.updates import Updates
from strategies.federated import Line


def attack_of(place: Place) -> UpdateAttack | None:
    """Return the update attack of an agent."""
    return cast("UpdateAttack | None", place.group.update)


def before(scenario: Scenario, layout: Layout, request: Request) -> Before:
    """Return what an attacker knows before it trains."""
    return Before(
        agent=request.agent,
        seed=scenario.seed,
        round=request.round,
        start=layout.flat(request.start),
        previous=None if request.previous is None else layout.flat(request.previous),
    )


def view(
    scenario: Scenario, layout: Layout, request: Request, own: State, seen: Tensor | None
) -> View:
    """Return what an attacker knows when it makes its update.

    Args:
        scenario: What is played.
        layout: What a model looks like.
        request: What it was asked.
        own: The model that it trained.
        seen: Others' updates that it is granted, (k, d); its own stands in for none.
    """
    early = before(scenario, layout, request)
    update = layout.flat({name: value.cpu() for name, value in own.items()}) - early.start
    return View(
        agent=early.agent,
        seed=early.seed,
        round=early.round,
        start=early.start,
        previous=early.previous,
        own=update,
        seen=update[None] if seen is None or not len(seen) else seen,
        participants=request.facts.participants,
        accomplices=request.facts.accomplices,
        member=request.facts.member,
        boost=request.facts.boost,
        deployed=_deployed(scenario, request),
    )


def crafted(attack: UpdateAttack, seat: View, layout: Layout, own: State) -> State:
    """Return the model that an attack hands over."""
    rest = {name: value.cpu() for name, value in layout.rest(own).items()}
    buffers = {name: rest[name] for name in layout.buffers}
    made = attack.buffers_handed_over(seat, buffers, layout)
    return layout.unflat(seat.start + attack.handed_over(seat), {**rest, **made})


def _deployed(scenario: Scenario, request: Request) -> Callable[[Tensor], Tensor] | None:
    """Return the rule of the defender that the attacker is told of, if any."""
    if not request.facts.defender:
        return None
    line = Line.of(scenario.defenders[request.facts.defender])
    round = request.round
    context = Context(
        seed=derived_seed(scenario.seed, f"attacker/{request.agent}"),
        memory=int(scenario.compute.memory_gib * 2**30),
    )

    def rule(updates: Tensor) -> Tensor:
        names = tuple(str(row) for row in range(len(updates)))
        shares = torch.ones(len(updates), dtype=torch.float64)
        rows = Updates(updates, shares, names, round)
        return aggregate(line.rule, line.steps, rows, {}, context).update

    return rule
