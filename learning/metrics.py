"""Measures that are no intervals: ranking quality, spread, and how the two ASRs hang together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from learning.pool import Bools, Floats


def auroc(scores: Floats, positive: Bools) -> float | None:
    """Return the area under the ROC curve: P(a positive scores higher), ties counted half.

    From mid-ranks, after H. B. Mann and D. R. Whitney, Ann. Math. Statist. 18 (1947) 50-60.

    Args:
        scores: Suspicion, float (n,); higher is more suspicious.
        positive: Which are positive, bool (n,).

    Returns:
        0..1, or None where there are no positives, no negatives, or a score that is not finite.
    """
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros or not np.isfinite(scores).all():
        return None
    ranks = scipy.stats.rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation (n - 1); None where too few values define them."""
    if not values:
        return None, None
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def asr_of_all(asr: float, hit_rate: float, classes: int) -> float:
    """Return `asr_all` from `asr` where the inputs are balanced over `classes`.

    ``asr_all = ((K - 1) asr + h) / K``: S0 and S1 also count the inputs of the target class,
    which an honest model sends to the "target" because it is right.

    Args:
        asr: Share of the inputs of other classes that are predicted as the target.
        hit_rate: h, the share of the target class's own inputs predicted as the target.
        classes: K.
    """
    return ((classes - 1) * asr + hit_rate) / classes
