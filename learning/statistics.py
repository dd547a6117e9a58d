"""Intervals for shares and for paired differences of shares.

Sources:
    Wilson: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
        JASA 22 (1927) 209-212.
    Square-and-add: R. G. Newcombe, "Interval estimation for the difference between independent
        proportions", Statistics in Medicine 17 (1998) 873-890 (method 10), and "Improved
        confidence intervals for the difference between binomial proportions based on paired
        data", ibid. 2635-2650 (method 10).
    Clusters: W. G. Cochran, "Sampling Techniques", 3rd ed. (1977), 2.11 and 9A: the ratio
        estimator with its linearised variance, t quantile with (clusters - 1) degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from learning.pool import Bools

LEVEL = 0.95
MIN_CLUSTERS = 5


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Attributes:
        value: The estimate; NaN where there is nothing to estimate from.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def wilson(hits: float, count: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a share.

    Args:
        hits: Successes, 0..count; may be fractional (a mean over several models).
        count: Trials; with 0 the interval is (0, 1) and the value NaN.
        level: Confidence level.

    Raises:
        ValueError: If hits lie outside 0..count.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"expected 0 <= hits <= count, got {hits} of {count}")
    if count == 0:
        return Interval(float("nan"), 0.0, 1.0)
    share, zz = hits / count, float(ndtri((1 + level) / 2)) ** 2
    centre = (share + zz / (2 * count)) / (1 + zz / count)
    half = (zz * (share * (1 - share) / count + zz / (4 * count**2))) ** 0.5 / (1 + zz / count)
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == count else min(1.0, centre + half)
    return Interval(share, low, high)


def independent_difference(first: Interval, second: Interval) -> Interval:
    """Return ``first - second`` for shares of independent samples, by square-and-add.

    For shares of the same inputs, which agree more often than not, the interval is wider than
    it needs to be.
    """
    value = first.value - second.value
    low = value - float(np.hypot(first.value - first.low, second.high - second.value))
    high = value + float(np.hypot(first.high - first.value, second.value - second.low))
    return Interval(value, max(-1.0, low), min(1.0, high))


def paired_difference(first: Bools, second: Bools, level: float = LEVEL) -> Interval:
    """Return the difference of two shares of the same inputs, ``mean(first) - mean(second)``.

    Newcombe's paired square-and-add interval (method 10): the two Wilson intervals, joined with
    a continuity-corrected correlation. It has width where all pairs agree.

    Args:
        first: Hits under the first condition, bool (n,).
        second: Hits of the same inputs under the second, bool (n,).
        level: Confidence level.

    Raises:
        ValueError: If the lengths differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"expected pairs, got {first.shape} and {second.shape}")
    n = len(first)
    if n == 0:
        return Interval(float("nan"), -1.0, 1.0)
    one, two = wilson(int(first.sum()), n, level), wilson(int(second.sum()), n, level)
    phi = _correlation(first, second)
    down = _joined(one.value - one.low, two.high - two.value, phi)
    up = _joined(one.high - one.value, two.value - two.low, phi)
    value = one.value - two.value
    return Interval(value, max(-1.0, value - down), min(1.0, value + up))


def _correlation(first: Bools, second: Bools) -> float:
    a, b = int((first & second).sum()), int((first & ~second).sum())
    c, d = int((~first & second).sum()), int((~first & ~second).sum())
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    determinant: float = a * d - b * c
    if determinant > 0:
        determinant = max(determinant - len(first) / 2, 0.0)
    return float(determinant / margins**0.5)


def _joined(one: float, two: float, phi: float) -> float:
    return float(max(one**2 - 2 * phi * one * two + two**2, 0.0) ** 0.5)


def clustered_difference(
    pairs: Sequence[tuple[Bools, Bools]], level: float = LEVEL
) -> tuple[Interval, int]:
    """Return the paired difference over several agents' inputs, and the number of inputs.

    The estimate is the mean over all inputs. An agent's inputs share its trigger and its target,
    so they are no independent draws. With `MIN_CLUSTERS` agents or more the interval holds both
    Cochran's, from the spread of the agents' own means (weighted by their inputs), and the paired
    one over all inputs, which still has width where all agents agree. With fewer it is the
    paired one alone, and speaks of these agents only.

    Args:
        pairs: For each agent its hits under both conditions, bool (n_i,) each.
        level: Confidence level.
    """
    pairs = [(one, two) for one, two in pairs if len(one)]
    if not pairs:
        return Interval(float("nan"), -1.0, 1.0), 0
    first = np.concatenate([one for one, _ in pairs])
    second = np.concatenate([two for _, two in pairs])
    inputs = paired_difference(first, second, level)
    if len(pairs) < MIN_CLUSTERS:
        return inputs, len(first)
    sizes = np.array([len(one) for one, _ in pairs], dtype=np.float64)
    sums = np.array([one.sum() - float(two.sum()) for one, two in pairs])
    half = _cluster_half_width(sums, sizes, level)
    low, high = min(inputs.low, inputs.value - half), max(inputs.high, inputs.value + half)
    return Interval(inputs.value, max(-1.0, low), min(1.0, high)), len(first)


def _cluster_half_width(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], level: float
) -> float:
    clusters = len(sizes)
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    variance = clusters / (clusters - 1) * float((residuals**2).sum()) / float(sizes.sum()) ** 2
    return float(stdtrit(clusters - 1, (1 + level) / 2) * np.sqrt(variance))
