"""What the rules share that rate whole updates by their distances."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from strategies.aggregation.base import Aggregate
from strategies.aggregation.parts.gram import ROUNDING, Doubles, combine, levelled
from strategies.aggregation.updates import Updates


def krum_scores(squared: Doubles, f: int) -> Doubles:
    """Return Krum's score of each row: the squared distances to its n - f - 2 closest others.

    Args:
        squared: Squared distances, float64 (n, n).
        f: Bound on the malicious rows; at least one distance is summed up where n < f + 3.
    """
    n = len(squared)
    others = squared[~np.eye(n, dtype=np.bool_)].reshape(n, n - 1)
    closest = np.sort(others, axis=1)[:, : max(1, n - f - 2)]
    return np.asarray(closest.sum(axis=1))


def lowest(scores: Doubles, count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` lowest scores in rising order; ties in row order.

    Scores that differ by rounding alone tie.
    """
    level = levelled(scores, ROUNDING * np.abs(scores))
    return np.argsort(level, kind="stable")[:count]


def average_of(updates: Updates, rows: NDArray[np.intp], memory: int) -> Aggregate:
    """Return the plain mean of some rows, as the aggregate of a rule that selected them."""
    selected = torch.zeros(len(updates), dtype=torch.bool)
    selected[torch.from_numpy(rows)] = True
    trust = selected.double() / len(rows)
    return Aggregate(combine(updates, trust, memory), trust=trust, selected=selected)
