"""Which rows to keep by their losses, and what an ensemble votes for."""

from __future__ import annotations

import numpy as np

from learning.answers import NO_CLASS
from learning.pool import Bools, Ints
from strategies.filtering.parts.principal import Doubles


def trimmed(losses: Doubles, labels: Ints, share: float, class_share: float) -> Bools:
    """Return the rows with the lowest losses, of all rows or of their own class, bool (n,).

    S2 B.1: a row stays if its loss is at most the quantile `share` of all losses, or at most the
    quantile `class_share` of the losses of its class, so that each class there keeps a row.

    Args:
        losses: float64 (n,).
        labels: int64 (n,).
        share: Quantile over all rows, cut to [0, 1].
        class_share: Quantile within each class, cut to [0, 1].
    """
    if not len(losses):
        return np.zeros(0, np.bool_)
    keep = np.asarray(losses <= np.quantile(losses, np.clip(share, 0, 1)))
    for label in np.unique(labels):
        own = labels == label
        keep[own] |= losses[own] <= np.quantile(losses[own], np.clip(class_share, 0, 1))
    return keep


def lowest(losses: Doubles, count: int, ties: Doubles) -> Bools:
    """Return exactly the `count` rows with the lowest losses, bool (n,).

    Args:
        losses: float64 (n,).
        count: How many, at most n.
        ties: Decides between equal losses: the lower one stays; float64 (n,).
    """
    keep = np.zeros(len(losses), np.bool_)
    keep[np.lexsort((ties, losses))[:count]] = True
    return keep


def ballots(predictions: Ints, classes: int) -> Ints:
    """Count votes.

    Args:
        predictions: What each learner predicts for each row, int64 (learners, n); `NO_CLASS` is
            no vote.
        classes: Number of classes.

    Returns:
        Votes for each class, int64 (n, classes).
    """
    counts = np.zeros((predictions.shape[1], classes), np.int64)
    rows = np.arange(predictions.shape[1])
    for predicted in predictions:
        voted = predicted != NO_CLASS
        counts[rows[voted], predicted[voted]] += 1
    return counts


def winners(counts: Ints, draws: Doubles) -> Ints:
    """Return for each row the class with most votes, int64 (n,), ties broken by its draw.

    Args:
        counts: Votes, int64 (n, classes).
        draws: Uniform in [0, 1), float64 (n,).
    """
    tied = counts == counts.max(axis=1, keepdims=True)
    pick = (draws * tied.sum(axis=1)).astype(np.int64)
    # The (pick + 1)-th of the tied classes is the first where so many have been passed.
    return np.asarray((tied.cumsum(axis=1) > pick[:, None]).argmax(axis=1), np.int64)
