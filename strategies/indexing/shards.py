"""Sharded agent indexing: an ensemble of which one member is trained again without the agent.

Bourtoule et al., Machine Unlearning (SISA), IEEE S&P 2021: contributors are dealt to S shards,
one model is trained on each, and to forget a contributor only its own shard is trained again.
The mean softmax of the S models answers. Work: 1 + (agents / S) trainings instead of 1 + agents.
"""

from __future__ import annotations

import numpy as np

from learning.pool import DEFENDER, Ints, Pool
from learning.training.job import BatchHook, Training, TrainingRequests
from strategies.base import Defender
from strategies.indexing.plan import Index, contributing_agents, nothing_left, rows_where, work_of


def shards(
    pool: Pool,
    defender: Defender,
    hooks: tuple[BatchHook, ...],
    agents: tuple[str, ...],
    count: int,
) -> TrainingRequests[Index]:
    """Train one model for each shard, and for each of `agents` its shard without its rows.

    Args:
        pool: All rows.
        defender: What the defender knows.
        hooks: Applied to each batch.
        agents: Contributors that get models of their own.
        count: Number of shards; those that come out empty are left out.

    Raises:
        ValueError: If the pool holds one contributor's rows alone.
    """
    place = _deal(pool, defender, count)
    parts = [rows_where(pool, place == shard) for shard in np.unique(place).tolist()]
    home = {owner: shard for shard, part in enumerate(parts) for owner in part.owners}
    jobs = [Training(part, hooks) for part in parts]
    reduced = {agent: parts[home[agent]].without_owner(agent) for agent in agents}
    jobs += [Training(rest, hooks) for rest in reduced.values() if len(rest)]
    models = yield jobs
    shared, again = tuple(models[: len(parts)]), iter(models[len(parts) :])
    by_agent = {}
    for agent, rest in reduced.items():
        others = tuple(model for shard, model in enumerate(shared) if shard != home[agent])
        by_agent[agent] = (*others, next(again)) if len(rest) else others
        if not by_agent[agent]:
            raise nothing_left(agent)
    return Index(shared, by_agent, work_of(jobs, pool, defender))


def _deal(pool: Pool, defender: Defender, count: int) -> Ints:
    """Return the shard of each row, int64 (n,): agents stay whole, the defender is spread."""
    draws = defender.numpy_generator("agent_indexing/shards")
    place = np.zeros(len(pool), np.int64)
    agents = contributing_agents(pool)
    shard_of = dict(zip(draws.permutation(agents).tolist(), np.arange(len(agents)), strict=True))
    for position, owner in enumerate(pool.owners):
        rows = np.flatnonzero(pool.owner_index == position)
        if owner == DEFENDER:
            place[draws.permutation(rows)] = np.arange(len(rows)) % count
        elif len(rows):
            place[rows] = shard_of[owner] % count
    return place
