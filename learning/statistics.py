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
import scipy
from numpy.typing import NDArray

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
    share, zz = hits / count, float(scipy.special.ndtri((1 + level) / 2)) ** 2
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


Hits = Bools | NDArray[np.float64]


def paired_difference(first: Hits, second: Hits, level: float = LEVEL) -> Interval:
    """Return the difference of two shares of the same inputs, ``mean(first) - mean(second)``.

    Newcombe's paired square-and-add interval (method 10): the two Wilson intervals, joined with
    a continuity-corrected correlation. It has width where all pairs agree. For an input's mean
    over several trainings, a share, it is wider than it needs to be: a share varies less than a
    hit of the same mean.

    Args:
        first: Hits under the first condition, bool (n,), or shares of hits, float64 (n,) in [0, 1].
        second: Those of the same inputs under the second.
        level: Confidence level.

    Raises:
        ValueError: If the lengths differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"expected pairs, got {first.shape} and {second.shape}")
    n = len(first)
    if n == 0:
        return Interval(float("nan"), -1.0, 1.0)
    one, two = (wilson(min(float(some.sum()), n), n, level) for some in (first, second))
    phi = _correlation(first.astype(np.float64), second.astype(np.float64))
    down = _joined(one.value - one.low, two.high - two.value, phi)
    up = _joined(one.high - one.value, two.value - two.low, phi)
    value = one.value - two.value
    return Interval(value, max(-1.0, value - down), min(1.0, value + up))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return phi of the 2 x 2 table of two conditions, with Newcombe's correction."""
    a, b = float(first @ second), float(first @ (1 - second))
    c, d = float((1 - first) @ second), float((1 - first) @ (1 - second))
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins <= 0:
        return 0.0
    determinant = a * d - b * c
    if determinant > 0:
        determinant = max(determinant - len(first) / 2, 0.0)
    return float(determinant / margins**0.5)


def _joined(one: float, two: float, phi: float) -> float:
    return float(max(one**2 - 2 * phi * one * two + two**2, 0.0) ** 0.5)


class Compared(NamedTuple):
    """A paired difference over agents, inputs and trainings.

    Attributes:
        interval: The estimate with its interval.
        inputs: Number of inputs.
        trainings: How often each condition was trained. With 1 the noise of training is in no
            interval, which then speaks of these two models alone.
    """

    interval: Interval
    inputs: int
    trainings: int


def clustered_difference(pairs: Sequence[tuple[Hits, Hits]], level: float = LEVEL) -> Compared:
    """Return the paired difference over several agents' inputs and a condition's trainings.

    The estimate is the mean over all inputs and trainings. Its interval joins two sources of
    noise, as independent ones are joined (square-and-add):

    - The inputs. An agent's inputs share its trigger and its target, so they are no independent
      draws. With `MIN_CLUSTERS` agents or more the interval holds both Cochran's, from the spread
      of the agents' own means (weighted by their inputs), and the paired one over all inputs,
      which still has width where all agents agree. With fewer it is the paired one alone, and
      speaks of these agents only.
    - The trainings. Training k of one condition has the start and the order of rows of training k
      of the other, so that they are pairs: Student's t interval of the mean difference of their
      shares over all inputs. With one training of each it has no such part.

    Args:
        pairs: For each agent its hits, or shares of hits, under both conditions, (n_i,) or, with
            several trainings, (trainings, n_i).
        level: Confidence level.

    Raises:
        ValueError: If the shapes differ, or the number of trainings does.
    """
    shares = [(_by_training(one), _by_training(two)) for one, two in pairs]
    trainings = {len(some) for pair in shares for some in pair}
    if len(trainings) > 1 or any(one.shape != two.shape for one, two in shares):
        raise ValueError("expected as many trainings and inputs under both conditions")
    shares = [(one, two) for one, two in shares if one.shape[1]]
    repeats = trainings.pop() if trainings else 1
    if not shares:
        return Compared(Interval(float("nan"), -1.0, 1.0), 0, repeats)
    inputs = _over_inputs([(one.mean(0), two.mean(0)) for one, two in shares], level)
    first, second = (np.concatenate(some, axis=1) for some in zip(*shares, strict=True))
    noise = _training_half_width(first.mean(1) - second.mean(1), level)
    value = inputs.value
    low = value - float(np.hypot(value - inputs.low, noise))
    high = value + float(np.hypot(inputs.high - value, noise))
    return Compared(Interval(value, max(-1.0, low), min(1.0, high)), first.shape[1], repeats)


def _by_training(hits: Hits) -> NDArray[np.float64]:
    return np.atleast_2d(np.asarray(hits, dtype=np.float64))


def _over_inputs(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], level: float
) -> Interval:
    first, second = (np.concatenate(some) for some in zip(*pairs, strict=True))
    inputs = paired_difference(first, second, level)
    if len(pairs) < MIN_CLUSTERS:
        return inputs
    sizes = np.array([len(one) for one, _ in pairs], dtype=np.float64)
    sums = np.array([float(one.sum()) - float(two.sum()) for one, two in pairs])
    half = _cluster_half_width(sums, sizes, level)
    low, high = min(inputs.low, inputs.value - half), max(inputs.high, inputs.value + half)
    return Interval(inputs.value, low, high)


def _training_half_width(differences: NDArray[np.float64], level: float) -> float:
    """Return Student's half width of a mean of paired differences; 0 for a single one."""
    count = len(differences)
    if count < 2:
        return 0.0
    deviation = float(differences.std(ddof=1))
    return (
        float(scipy.special.stdtrit(count - 1, (1 + level) / 2)) * deviation / float(np.sqrt(count))
    )


def _cluster_half_width(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], level: float
) -> float:
    clusters = len(sizes)
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    variance = clusters / (clusters - 1) * float((residuals**2).sum()) / float(sizes.sum()) ** 2
    return float(scipy.special.stdtrit(clusters - 1, (1 + level) / 2) * np.sqrt(variance))


def combined_difference(
    games: Sequence[Hits], factors: Sequence[float], level: float = LEVEL
) -> Compared:
    """Return a sum of paired differences of several games, ``sum_k factor_k * mean(hits_k)``.

    All games are asked the same inputs, so the sum is formed input by input, and its variance is
    that of these sums: what the games have in common takes its part by itself. Two pseudo-inputs
    are added, whose sums cancel and whose squares make half of the sum of the factors' squares; so
    the interval has width where all games agree. Of a single difference, factors 1 and -1, that is
    the adjusted interval of A. Agresti and Y. Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24 (2005) 729-740. The noise of trainings
    is joined to it as in `clustered_difference`.

    Args:
        games: Of each game the hits, or shares of hits, (n,) or, with several trainings,
            (trainings, n).
        factors: Of each game, finite; they sum to 0.
        level: Confidence level.

    Raises:
        ValueError: If the shapes differ, or the factors do not sum to 0.
    """
    shares = [_by_training(hits) for hits in games]
    if len({some.shape for some in shares}) != 1 or len(shares) != len(factors):
        raise ValueError("expected a factor for each game, and as many trainings and inputs in all")
    if abs(sum(factors)) > 1e-9 * sum(map(abs, factors)):
        raise ValueError(f"expected factors that sum to 0, got {list(factors)}")
    sums = np.tensordot(np.asarray(factors, np.float64), np.stack(shares), 1)
    trainings, n = sums.shape
    if n == 0:
        return Compared(Interval(float("nan"), -np.inf, np.inf), 0, trainings)
    inputs = _adjusted(sums.mean(0), sum(factor**2 for factor in factors) / 2, level)
    noise = _training_half_width(sums.mean(1), level)
    value = inputs.value
    low = value - float(np.hypot(value - inputs.low, noise))
    high = value + float(np.hypot(inputs.high - value, noise))
    return Compared(Interval(value, low, high), n, trainings)


def _adjusted(sums: NDArray[np.float64], squares: float, level: float) -> Interval:
    """Return the mean with Wald's interval of the inputs and two pseudo-inputs."""
    n = len(sums) + 2
    centre = float(sums.sum()) / n
    variance = (float(sums @ sums) + squares) / n - centre**2
    half = float(scipy.special.ndtri((1 + level) / 2)) * (variance / n) ** 0.5
    value = float(sums.mean())
    return Interval(value, min(value, centre - half), max(value, centre + half))
