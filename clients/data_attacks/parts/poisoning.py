"""Which rows of a share are poisoned, and what an agent hands over in the end."""

from __future__ import annotations

import numpy as np

from clients.data_attacks.base import AgentContext, Contribution, Share
from learning.data.partitioning import poison_count
from learning.pool import Bools, Floats, Ints


def choose_rows(
    rate: float, eligible: Bools, seat: AgentContext, *, reference: float | None = None
) -> Ints:
    """Draw the rows to poison, without replacement, from the agent's own generator.

    Their number is the poison rate times a reference: `reference` if given, else the scenario's
    (`AgentContext.reference_rows`), else the whole share. It is capped at the eligible rows, and 0
    where the rounding says so; `Contribution.poisoned` tells what was really done.

    Args:
        rate: Poison rate in [0, 1].
        eligible: Which rows of the share may be poisoned, bool (n,).
        seat: The agent's place.
        reference: Number of rows that the rate refers to.

    Returns:
        Positions, ascending, int64 (k,).
    """
    if reference is None:
        reference = len(eligible) if seat.reference_rows is None else seat.reference_rows
    candidates = np.flatnonzero(eligible)
    count = min(poison_count(rate, reference, rounding=seat.rounding), len(candidates))
    drawn = seat.generator("poisoned rows").choice(candidates, size=count, replace=False)
    return np.sort(drawn).astype(np.int64)


def rows_to_poison(rate: float, rows: int, seat: AgentContext) -> int:
    """Return how many rows of a share an attack poisons that chooses them itself, 0..rows.

    Args:
        rate: Poison rate in [0, 1].
        rows: Rows of the share.
        seat: The agent's place.
    """
    reference = rows if seat.reference_rows is None else seat.reference_rows
    return min(poison_count(rate, reference, rounding=seat.rounding), rows)


def contribute(
    share: Share,
    rows: Ints,
    x_rows: Floats,
    y_rows: Ints,
    *,
    x_triggered: Floats | None = None,
    targets: Ints | None = None,
    target: int | None = None,
    source: int | None = None,
    x_part: Floats | None = None,
    run_rows: Ints | None = None,
) -> Contribution:
    """Return the play in which `rows` of the share become (`x_rows`, `y_rows`).

    A chosen row counts as poisoned where its input or label really changed. Without
    `x_triggered` the agent has no backdoor.
    """
    x, y = share.x_train.copy(), share.y_train.copy()
    x[rows], y[rows] = x_rows, y_rows
    poisoned = (y != share.y_train) | (x != share.x_train).any(axis=(1, 2, 3))
    if x_triggered is None or targets is None:
        x_triggered, targets = share.x_run[:0], np.zeros(0, np.int64)
    return Contribution(x, y, poisoned, x_triggered, targets, target, source, x_part, run_rows)
