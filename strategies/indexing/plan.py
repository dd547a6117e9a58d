"""What the ways of agent indexing share: the models they end with, and sub-pools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from learning.pool import DEFENDER, Bools, Ints, Pool
from learning.training.job import Trained, Training
from strategies.base import Defender


@dataclass(frozen=True, eq=False)
class Index:
    """Trained models and whom they answer.

    Attributes:
        shared: The models of everybody.
        by_agent: For each agent, models that were trained without its rows.
        work: Cost in units of one full training.
    """

    shared: tuple[Trained, ...]
    by_agent: dict[str, tuple[Trained, ...]]
    work: float


def work_of(jobs: Iterable[Training], pool: Pool, defender: Defender) -> float:
    """Return the row-epochs that `jobs` ask for, as a share of one training on all of `pool`.

    It counts what is asked for: early stopping shortens the unit as well as the jobs.
    """
    asked = sum(len(job.pool) * (job.epochs or defender.epochs) for job in jobs)
    return asked / (len(pool) * defender.epochs)


def row_counts(pool: Pool) -> dict[str, int]:
    """Return for each contributor how many of its rows are left, in the order of the blocks."""
    counts = np.bincount(pool.owner_index, minlength=len(pool.owners))
    return dict(zip(pool.owners, counts.tolist(), strict=True))


def contributing_agents(pool: Pool) -> tuple[str, ...]:
    """Return the agents, without the defender, that have rows left in the pool."""
    return tuple(name for name, rows in row_counts(pool).items() if rows and name != DEFENDER)


def rows_where(pool: Pool, keep: Bools) -> Pool:
    """Return the pool of the rows at which `keep`, bool (n,) in the order of ids, is true."""
    counts = np.bincount(pool.owner_index[keep], minlength=len(pool.owners))
    blocks = tuple(block for block, rows in zip(pool.blocks, counts, strict=True) if rows)
    if not blocks:
        return Pool((), pool.classes)
    ids: Ints = np.concatenate([block.ids for block in blocks])
    removed = np.setdiff1d(ids, pool.ids[keep], assume_unique=True)
    return Pool(blocks, pool.classes, tuple(removed.tolist()))


def nothing_left(agent: str) -> ValueError:
    """Return the error for an agent without whose rows there is nothing to train on."""
    return ValueError(
        f"agent_indexing: expected rows of others than {agent!r} to train its model on, got "
        "none; set defender_share above 0 or add agents"
    )
