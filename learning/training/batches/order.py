"""In which order rows are trained on: an order that leaving rows out does not disturb.

Every epoch gives each row *id* a random key; a training visits its rows by ascending key. Two
trainings whose pools differ by a few rows therefore see all their common rows in the same order,
which makes their models comparable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learning.pool import Bools, Ints
from learning.seeds import numpy_generator


def row_keys(seed: int, purpose: str, epoch: int, ids: Ints) -> NDArray[np.float64]:
    """Return one uniform key in [0, 1) for each id; an id's key does not depend on the others.

    Args:
        seed: The game's seed.
        purpose: What the keys are for; different purposes give independent keys.
        epoch: Epoch, from 0.
        ids: Row ids, int64 (n,).
    """
    draw = numpy_generator(seed, purpose, round=epoch)
    return draw.random(int(ids.max()) + 1)[ids] if len(ids) else np.zeros(0)


def visiting_order(seed: int, purpose: str, epoch: int, ids: Ints) -> Ints:
    """Return the permutation of 0..n-1 in which the rows `ids` are visited, int64 (n,)."""
    return np.argsort(row_keys(seed, f"order/{purpose}", epoch, ids), kind="stable")


def batch_sizes(rows: int, batch_size: int, *, join_single: bool) -> list[int]:
    """Return the sizes of an epoch's batches; the last, incomplete batch is used.

    Args:
        rows: Rows to train on.
        batch_size: Rows of a full batch.
        join_single: A last batch of one row joins the one before it, because BatchNorm has no
            variance of a single row.
    """
    full, rest = divmod(rows, batch_size)
    sizes = [batch_size] * full + ([rest] if rest else [])
    if join_single and rest == 1 and full:
        sizes = [*sizes[:-2], batch_size + 1]
    return sizes


def validation_mask(seed: int, share: float, ids: Ints) -> Bools:
    """Return which rows are held out for validation, bool (n,).

    An id is held out if its own key falls below `share`, whatever else is in the pool; at least
    one row is held out and one is left.

    Raises:
        ValueError: If there are fewer than two rows to split.
    """
    if share == 0:
        return np.zeros(len(ids), np.bool_)
    if len(ids) < 2:
        raise ValueError(
            f"expected at least 2 rows to hold out training.validation_share={share}, got "
            f"{len(ids)}: set it to 0"
        )
    keys = row_keys(seed, "validation", 0, ids)
    held = keys < share
    held[np.argmin(keys)], held[np.argmax(keys)] = True, False
    return held
