"""A federated defender: what its list of defences means, and one round of it.

The defender holds a global model. In each round it aggregates what the admitted agents and its own
virtual agents handed over. State in, state out: nothing lives outside `ServerState`.

Agent indexing keeps a federation for each part of the agents, which goes on without that part; an
agent is answered by the federation without it. ``exact`` makes every agent a part of its own (N
federations); ``shards`` makes S parts, at the price of leaving out more than the agent itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from learning.method import Method
from learning.server_optimizers.base import ServerOptimizer, StepState
from strategies.aggregation.base import Aggregate, Aggregator, Context, PreAggregator
from strategies.aggregation.mean import Mean
from strategies.aggregation.median import Median
from strategies.aggregation.parts.buffers import Buffers, aggregate_buffers
from strategies.aggregation.parts.chain import aggregate, infeasible
from strategies.aggregation.updates import NotFinite, Updates
from strategies.base import Augmentation, Defender
from strategies.indexing.agent_indexing import AgentIndexing

SHARED = ""
Fallback = Literal["skip", "median"]


@dataclass(frozen=True)
class DefencePipeline:
    """A defender's defences, sorted by what they do.

    Attributes:
        steps: Before aggregation, in order.
        rule: The aggregation rule; the weighted mean where the scenario names none.
        augmentations: Change the defender's own rows, which it then trains on as a virtual agent.
        indexing: Which agents are left out together, if any.
    """

    steps: tuple[PreAggregator, ...]
    rule: Aggregator
    augmentations: tuple[Augmentation, ...]
    indexing: AgentIndexing | None

    @classmethod
    def of(cls, defences: Sequence[Method]) -> DefencePipeline:
        """Sort the defences of a scenario."""
        rules = [d for d in defences if isinstance(d, Aggregator)]
        index = [d for d in defences if isinstance(d, AgentIndexing)]
        return cls(
            steps=tuple(d for d in defences if isinstance(d, PreAggregator)),
            rule=rules[0] if rules else Mean(),
            augmentations=tuple(d for d in defences if isinstance(d, Augmentation)),
            indexing=index[0] if index else None,
        )

    @property
    def needs_own(self) -> bool:
        """Whether the rule wants the defender's own update to compare with."""
        return bool(getattr(self.rule, "needs_own", False))

    @property
    def draws(self) -> bool:
        """Whether the rule, or a step before it, draws at random."""
        return self.rule.draws or any(step.draws for step in self.steps)

    def parts(self, agents: Sequence[str], defender: Defender) -> dict[str, tuple[str, ...]]:
        """Return the federations to keep, and which agents each leaves out.

        `SHARED` leaves out nobody. The parts of ``shards`` are drawn by the defender.
        """
        federations: dict[str, tuple[str, ...]] = {SHARED: ()}
        if self.indexing is None:
            return federations
        if self.indexing.method == "exact":
            return federations | {f"without {name}": (name,) for name in agents}
        count = min(self.indexing.shards, len(agents))
        order = defender.numpy_generator("agent_indexing/federated").permutation(len(agents))
        for part in range(count):
            left_out = tuple(agents[k] for k in sorted(order[part::count].tolist()))
            federations[f"without part {part + 1}"] = left_out
        return federations


@dataclass(frozen=True, eq=False)
class ServerState:
    """Where a federation stands after a round.

    Attributes:
        weights: Flat weights, (d,).
        buffers: The model's other state: its buffers, and parameters that are frozen.
        rule: The rule's state.
        step: The server optimiser's state; None before the first step.
    """

    weights: Tensor
    buffers: Mapping[str, Tensor]
    rule: Mapping[str, Tensor] = field(default_factory=dict)
    step: StepState | None = None


@dataclass(frozen=True, eq=False)
class RoundResult:
    """What came of a round.

    Attributes:
        standing: The new standing.
        aggregate: What the rule answered; None where the round was skipped.
        note: Why it was skipped or what the rule had to say; "" for nothing.
        weights: Each update's trust over the trust that the rule gives where it tells nobody
            apart, float64 (n,): 1 is like everybody, 0 no part at all; None where the rule's trust
            is no judgement (`Aggregator.even`).
        fallback: The rule that aggregated instead of the defender's own; "" for none.
    """

    standing: ServerState
    aggregate: Aggregate | None
    note: str = ""
    weights: Tensor | None = None
    fallback: str = ""


def play_round(
    line: DefencePipeline,
    standing: ServerState,
    updates: Updates,
    buffers: Buffers,
    context: Context,
    optimizer: ServerOptimizer,
    fallback: Fallback = "skip",
) -> RoundResult:
    """Aggregate one round's updates and take the server's step.

    Args:
        line: The defender's defences.
        standing: Where the federation stands; left as it is.
        updates: Of the admitted agents and the defender's own, ``w_i - w``.
        buffers: Of the same, in the same order; what becomes of them follows from what the rule
            makes of the updates.
        context: What the rule may use.
        optimizer: The scenario's server optimiser.
        fallback: What to do where the rule, or a step before it, is infeasible for what drop-outs
            and refusals have left: ``skip`` the round, or take the coordinate-wise ``median`` of
            the updates as they came, which is feasible for any number. The rule's own memory then
            stays as it was.

    Returns:
        The round; skipped, with the standing as it was, where there is nothing to add.
    """
    reason = infeasible(line.rule, line.steps, len(updates))
    if reason is not None and fallback == "skip":
        return RoundResult(standing, None, f"skipped: {reason}")
    rule, steps = (line.rule, line.steps) if reason is None else (Median(), ())
    try:
        result = aggregate(rule, steps, updates, standing.rule, context)
    except NotFinite as error:
        return RoundResult(standing, None, f"skipped: {error}")
    step, state = optimizer.step(result.update, standing.step)
    weights = standing.weights + step.to(standing.weights.dtype)
    rest, told = aggregate_buffers(buffers, standing.buffers, result, rule, bool(steps))
    if reason is not None:
        after = ServerState(weights, rest, standing.rule, state)
        note = "; ".join([f"{fallback} instead: {reason}", *told])
        return RoundResult(after, result, note, fallback=fallback)
    after = ServerState(weights, rest, result.state, state)
    relative = relative_weights(rule, result, updates)
    return RoundResult(after, result, "; ".join([*result.notes, *told]), relative)


def relative_weights(rule: Aggregator, result: Aggregate, updates: Updates) -> Tensor | None:
    """Return `RoundResult.weights`.

    Steps before the rule count as its own: the comparison is with a mean of the updates as they
    came, by their shares or a plain one, whichever the rule is without its judgement.
    """
    if rule.even is None or result.trust is None:
        return None
    if rule.even == "equal":
        return result.trust * len(updates)
    # A share of 0 has no weight to lose.
    return torch.where(updates.shares > 0, result.trust / updates.shares, 1.0)
