"""Numbers that the attacks take from the updates that they see.

Sums are float64 whatever the updates are, and are taken a few columns at a time, so that float64
copies of large updates are never held. Values below 1e150 stay finite, as admission demands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Columns that are held in float64 at once.
COLUMNS = 2**16


def mean_of(seen: Tensor) -> Tensor:
    """Return the mean of rows (k, d), each of the same weight, float64 (d,)."""
    return torch.cat([seen[:, part].double().mean(dim=0) for part in _parts(seen)])


def deviation_of(seen: Tensor) -> Tensor:
    """Return the standard deviation of each column of (k, d), float64 (d,).

    The sum of squares is divided by k, so that one row has deviation 0.
    """
    found = [seen[:, part].double().std(dim=0, correction=0) for part in _parts(seen)]
    return torch.cat(found)


def products_about(centre: Tensor, seen: Tensor, along: Tensor) -> Tensor:
    """Return the inner products of the rows about a centre, and of a direction.

    Args:
        centre: What is subtracted from each row, float64 (d,).
        seen: Rows (k, d).
        along: The direction, float64 (d,); nothing is subtracted from it.

    Returns:
        float64 (k + 1, k + 1); the direction comes last.
    """
    total = torch.zeros(len(seen) + 1, len(seen) + 1, dtype=torch.float64)
    for part in _parts(seen):
        points = torch.cat([seen[:, part].double() - centre[part], along[None, part]])
        total += points @ points.T
    return total


def squared_distances(seen: Tensor, update: Tensor) -> Tensor:
    """Return the squared distance of each row (k, d) to an update (d,), float64 (k,)."""
    total = torch.zeros(len(seen), dtype=torch.float64)
    for part in _parts(seen):
        total += (seen[:, part].double() - update[part].double()).square().sum(dim=1)
    return total


def _parts(rows: Tensor) -> Iterator[slice]:
    for first in range(0, rows.shape[1], COLUMNS):
        yield slice(first, first + COLUMNS)
