"""How an agent plays its update attack: what it is told becomes a view, its update a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from clients.request import Request, RuleKnowledge
from clients.update_attacks.base import Before, UpdateAttack, View
from clients.update_attacks.local_rows import LocalKnowledge
from learning.seeds import derived_seed
from learning.weights import State, WeightLayout
from scenarios.scenario import Scenario
from scenarios.schema import AgentSpec
from strategies.aggregation.base import Context
from strategies.aggregation.parts.chain import aggregate
from strategies.aggregation.updates import Updates
from strategies.federated import DefencePipeline


def attack_of(place: AgentSpec) -> UpdateAttack | None:
    """Return the update attack of an agent."""
    return cast("UpdateAttack | None", place.group.update)


def before(
    scenario: Scenario,
    layout: WeightLayout,
    request: Request,
    local: LocalKnowledge | None = None,
) -> Before:
    """Return what an attacker knows before it trains.

    Args:
        scenario: What is played.
        layout: What a model looks like.
        request: What it was asked.
        local: Its own rows and the broadcast model, where its attack needs them.
    """
    return Before(
        agent=request.agent,
        seed=scenario.seed,
        round=request.round,
        start=layout.flat(request.start),
        previous=None if request.previous is None else layout.flat(request.previous),
        local=local,
    )


def view(
    scenario: Scenario,
    layout: WeightLayout,
    request: Request,
    own: State,
    seen: Tensor | None,
    known: RuleKnowledge | None = None,
) -> View:
    """Return what an attacker knows when it makes its update.

    Args:
        scenario: What is played.
        layout: What a model looks like.
        request: What it was asked.
        own: The model that it trained.
        seen: Others' updates that it is granted, (k, d); its own stands in for none.
        known: What it is told of the rule, where it is granted to know it.
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
        deployed=_deployed(scenario, layout, request, known or RuleKnowledge()),
    )


def crafted(attack: UpdateAttack, seat: View, layout: WeightLayout, own: State) -> State:
    """Return the model that an attack hands over."""
    rest = {name: value.cpu() for name, value in layout.rest(own).items()}
    buffers = {name: rest[name] for name in layout.buffers}
    made = attack.buffers_handed_over(seat, buffers, layout)
    return layout.unflat(seat.start + attack.handed_over(seat), {**rest, **made})


def _deployed(
    scenario: Scenario, layout: WeightLayout, request: Request, known: RuleKnowledge
) -> Callable[[Tensor], Tensor] | None:
    """Return the rule of the defender that the attacker is told of, if any."""
    if not request.facts.defender:
        return None
    line = DefencePipeline.of(scenario.defenders[request.facts.defender])
    round = request.round
    context = Context(
        seed=derived_seed(scenario.seed, f"attacker/{request.agent}"),
        memory=int(scenario.compute.memory_gib * 2**30),
        head=layout.head,
    )

    def rule(updates: Tensor) -> Tensor:
        names, weights = _named(len(updates), known, request.facts.accomplices)
        rows = Updates(updates, weights, names, round)
        return aggregate(line.rule, line.steps, rows, known.memory, context).update

    return rule


def _named(n: int, known: RuleKnowledge, accomplices: int) -> tuple[tuple[str, ...], Tensor]:
    """Return names and registered rows of n updates, of which the last are the accomplices'.

    Those that the attacker does not see are taken to have the rows of those that it does; where it
    sees none, or asks with fewer rows, all count alike.
    """
    group = known.shares[len(known.shares) - accomplices :]
    seen, others = known.shares[: len(known.shares) - len(group)], n - len(group)
    if not seen or others < 0:
        return tuple(str(row) for row in range(n)), torch.ones(n, dtype=torch.float64)
    hidden = {name for name, _ in group}  # of its own group it takes others' place
    rows = []
    for at in range(others):
        name, weight = seen[at % len(seen)]
        real = at < len(seen) and name not in hidden
        rows.append((name if real else f"unseen {at}", weight))
    rows += group
    return tuple(name for name, _ in rows), torch.tensor([w for _, w in rows]).double()
