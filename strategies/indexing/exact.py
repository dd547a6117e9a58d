"""Exact agent indexing: one training for each agent, without that agent's rows (S1 4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from learning.pool import Pool
from learning.training.job import BatchHook, Trained, Training, TrainingRequests
from strategies.base import Defender, Unfiltered
from strategies.filtering.parts.lockstep import in_lockstep
from strategies.indexing.plan import Index, nothing_left, work_of


def exact(
    pool: Pool,
    defender: Defender,
    hooks: tuple[BatchHook, ...],
    agents: tuple[str, ...],
    unfiltered: Unfiltered | None = None,
) -> TrainingRequests[Index]:
    """Train the model of all and one model without each of `agents`, all in one request.

    Args:
        pool: All rows, filtered.
        defender: What the defender knows.
        hooks: Applied to each batch.
        agents: Contributors that get models of their own.
        unfiltered: If given, the rows of an agent's model are filtered by themselves: the model is
            then a function of others' rows alone, to the bit.

    Raises:
        ValueError: If there are one contributor's rows alone, or a filter has left none of others.
    """
    parts = [(unfiltered.pool if unfiltered else pool).without_owner(agent) for agent in agents]
    _check_left(agents, parts)
    if unfiltered is not None:
        parts = yield from in_lockstep([unfiltered.prepare(part) for part in parts])
        _check_left(agents, parts)
    jobs = [Training(part, hooks) for part in (pool, *parts)]
    models = yield jobs
    by_agent: dict[str, tuple[Trained, ...]] = {
        agent: (model,) for agent, model in zip(agents, models[1:], strict=True)
    }
    return Index((models[0],), by_agent, work_of(jobs, pool, defender))


def _check_left(agents: tuple[str, ...], parts: Sequence[Pool]) -> None:
    for agent, part in zip(agents, parts, strict=True):
        if not len(part):
            raise nothing_left(agent)
