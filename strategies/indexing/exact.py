"""Exact agent indexing: one training for each agent, without that agent's rows (S1 4.2.2)."""

from __future__ import annotations

from learning.pool import Pool
from learning.training.job import BatchHook, Steps, Trained, Training
from strategies.base import Defender
from strategies.indexing.plan import Index, nothing_left, work_of


def exact(
    pool: Pool, defender: Defender, hooks: tuple[BatchHook, ...], agents: tuple[str, ...]
) -> Steps[Index]:
    """Train the model of all and one model without each of `agents`, all in one request.

    Raises:
        ValueError: If the pool holds one contributor's rows alone.
    """
    jobs = [Training(pool, hooks)]
    for agent in agents:
        others = pool.without_owner(agent)
        if not len(others):
            raise nothing_left(agent)
        jobs.append(Training(others, hooks))
    models = yield jobs
    by_agent: dict[str, tuple[Trained, ...]] = {
        agent: (model,) for agent, model in zip(agents, models[1:], strict=True)
    }
    return Index((models[0],), by_agent, work_of(jobs, pool, defender))
