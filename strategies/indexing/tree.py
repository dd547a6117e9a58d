"""Agent indexing by a tree of trainings: O(log N) trainings instead of N.

Ours (divide and conquer over what is left out). A node's model has seen no row of the agents
that it leaves out. The root leaves out all agents and is trained on the defender's rows. A node
that leaves out several agents has two children, each leaving out one half: a child continues its
parent's model on the rows of the other half, with some of what the parent had seen mixed in
against forgetting. A leaf leaves out one agent: it answers that agent.

Every row is new to one node of a level, so a level costs at most passes x (1 + replay) trainings,
and there are log2 N levels. Only the paths to the agents asked for are trained. At the same work,
few epochs with much replay keep what was learned better than many epochs with little: see
benchmarks/indexing_shortcuts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.pool import DEFENDER, Bools, Pool
from learning.shares import count_of
from learning.training.job import BatchHook, Trained, Training, TrainingRequests
from strategies.base import Defender
from strategies.indexing.plan import (
    Index,
    contributing_agents,
    nothing_left,
    rows_where,
    work_of,
)


@dataclass(frozen=True, eq=False)
class _Node:
    left_out: tuple[str, ...]
    new: tuple[str, ...]  # contributors whose rows no node above it has seen
    path: str
    start: Trained | None


def tree(
    pool: Pool,
    defender: Defender,
    hooks: tuple[BatchHook, ...],
    agents: tuple[str, ...],
    passes: float,
    replay: float,
) -> TrainingRequests[Index]:
    """Train the model of all, and a tree whose leaves answer `agents`.

    Args:
        pool: All rows.
        defender: What the defender knows.
        hooks: Applied to each batch.
        agents: Contributors that get models of their own.
        passes: A node trains this many times the scenario's epochs on its rows.
        replay: Rows seen before that a node trains on, as a share of its new rows.

    Raises:
        ValueError: If the pool holds one contributor's rows alone.
    """
    # The tree is the same whoever asks, so that a control game prunes it but does not change it.
    order = defender.numpy_generator("agent_indexing/tree").permutation(contributing_agents(pool))
    jobs = [Training(pool, hooks)]
    (shared,) = yield jobs
    by_agent: dict[str, tuple[Trained, ...]] = {}
    level = [_Node(tuple(order.tolist()), (DEFENDER,), "", None)] if agents else []
    while level:
        asked = [_job(pool, defender, hooks, node, passes, replay) for node in level]
        jobs += [job for job in asked if job is not None]
        sent = iter((yield [job for job in asked if job is not None]))
        grown = [
            node.start if job is None else next(sent)
            for node, job in zip(level, asked, strict=True)
        ]
        by_agent |= _leaves(level, grown)
        level = [
            child
            for node, model in zip(level, grown, strict=True)
            for child in _children(node, model, agents)
        ]
    return Index((shared,), by_agent, work_of(jobs, pool, defender))


def _job(
    pool: Pool,
    defender: Defender,
    hooks: tuple[BatchHook, ...],
    node: _Node,
    passes: float,
    replay: float,
) -> Training | None:
    """Return the training of a node; None where it has nothing new to train on."""
    rows = _rows(pool, defender, node, replay)
    if not len(rows):
        return None
    epochs = max(1, count_of(passes, defender.epochs))
    purpose = f"agent_indexing/tree/{node.path}"
    return Training(rows, hooks, node.start, epochs, purpose)


def _leaves(level: list[_Node], grown: list[Trained | None]) -> dict[str, tuple[Trained, ...]]:
    out: dict[str, tuple[Trained, ...]] = {}
    for node, model in zip(level, grown, strict=True):
        if len(node.left_out) == 1:
            (agent,) = node.left_out
            if model is None:
                raise nothing_left(agent)
            out[agent] = (model,)
    return out


def _children(node: _Node, model: Trained | None, agents: tuple[str, ...]) -> list[_Node]:
    middle = len(node.left_out) // 2
    halves = (node.left_out[:middle], node.left_out[middle:])
    if not halves[0]:
        return []
    return [
        _Node(out, new, f"{node.path}{side}", model)
        for side, out, new in ((0, halves[0], halves[1]), (1, halves[1], halves[0]))
        if not set(out).isdisjoint(agents)
    ]


def _rows(pool: Pool, defender: Defender, node: _Node, replay: float) -> Pool:
    """Return the rows that a node trains on: all new ones, and a draw from those seen before."""
    owners = np.asarray(pool.owners)
    new: Bools = np.isin(owners, node.new)[pool.owner_index]
    seen: Bools = ~new & ~np.isin(owners, node.left_out)[pool.owner_index]
    candidates = np.flatnonzero(seen)
    draws = defender.numpy_generator(f"agent_indexing/replay/{node.path}")
    count = min(count_of(replay, int(new.sum())), len(candidates))
    keep = new.copy()
    keep[draws.choice(candidates, count, replace=False)] = True
    return rows_where(pool, keep)
