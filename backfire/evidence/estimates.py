"""A score over seeds: its mean and 95 % interval; and a score's spread across agents, kept apart.

An interval here speaks of *seeds*: what another play of the same scenario would give. How much
the agents of one game differ from each other is a `Spread`, and no interval of the mean: the
agents of one game meet in one model, so they are no independent draws.

The interval is the union of two, each cut to the score's range: Student's t, and Student's t on a
scale on which shares vary alike wherever they lie, taken back to the mean. Near an end of the range
scores are skewed, and t alone covers too little there. `python -m benchmarks coverage` measures how
often it holds the mean; `docs/statistics.md` has the table.

There is *no* interval where nothing honest can be said: of one seed, of seeds that all gave the
same value, and where seeds fall into two heaps (`two_heaps`).

Sources:
    t: Student, "The probable error of a mean", Biometrika 6 (1908) 1-25.
    Scale: arcsine of the root for a range with two ends, the root for one with a lower end:
        M. S. Bartlett, "The use of transformations", Biometrics 3 (1947) 39-52.
    Back to the mean: J. Neyman, E. L. Scott, "Correction for bias introduced by a transformation of
        variables", Annals of Mathematical Statistics 31 (1960) 643-655: the mean of the score whose
        transform is normal with the limit as its mean and the sample's variance.
    Heaps: the chance that a gap among n uniform values takes the share q of their range is at most
        (n - 1) (1 - q)^(n - 2), and just that for q >= 1/2: R. A. Fisher, "Tests of significance in
        harmonic analysis", Proceedings of the Royal Society A 125 (1929) 54-59.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from learning.seeds import numpy_generator
from learning.statistics import LEVEL, Interval, wilson

# Means of equal numbers differ in their last digits; scores are of the order of one.
_EQUAL: Final = 1e-12
# Heaps lie at least this far apart: 40 points.
LEAST_GAP: Final = 0.4
# How often values drawn evenly from a range may be called two heaps.
FALSE_HEAPS: Final = 0.02

Floats = NDArray[np.float64]
Method = Literal["none", "equal", "heaps", "t"]
Bounds = tuple[float, float]
ANYWHERE: Final[Bounds] = (float("-inf"), float("inf"))
SHARE: Final[Bounds] = (0.0, 1.0)
GAP: Final[Bounds] = (-1.0, 1.0)
AMOUNT: Final[Bounds] = (0.0, float("inf"))


class Heaps(NamedTuple):
    """Two heaps of seeds with a gap between, such as games that learned and games that did not.

    Attributes:
        below: The values below the gap, in order.
        above: The values above it, in order.
        share: Share of the seeds above, with Wilson's interval: this, and not the mean, is what the
            seeds tell.
    """

    below: tuple[float, ...]
    above: tuple[float, ...]
    share: Interval


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its confidence interval.

    Attributes:
        value: The mean; None without values.
        low: Lower end; None where there is no interval.
        high: Upper end; None where there is no interval.
        n: Number of values (seeds).
        values: The values themselves, as they were given.
        method: How the interval was made: ``t``; or why there is none. ``none``: fewer than two
            values. ``equal``: all values are the same, which tells nothing of how seeds vary.
            ``heaps``: the seeds fall into two heaps, and no interval of the mean is honest.
        heaps: The two heaps; None where the seeds fall into none.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    values: tuple[float, ...]
    method: Method
    heaps: Heaps | None = None

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (n - 1); None for fewer than two."""
        return _std(np.array(self.values))

    @property
    def reach(self) -> tuple[float, float] | None:
        """The interval; without one from the least value to the largest; None without values."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return (min(self.values), max(self.values)) if self.values else None

    def holds(self, value: float) -> bool:
        """Return whether the interval holds `value`; False where there is no interval."""
        if self.low is None or self.high is None:
            return False
        return self.low - _EQUAL <= value <= self.high + _EQUAL


class Spread(NamedTuple):
    """How far the agents of a game lie apart. No interval of their mean.

    Attributes:
        mean: Mean over the agents; None without agents.
        std: Standard deviation across agents (n - 1); None for fewer than two.
        low: The smallest value; None without agents.
        high: The largest value; None without agents.
        agents: Number of agents.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    agents: int


def estimate(
    values: Sequence[float], *, level: float = LEVEL, bounds: Bounds = ANYWHERE
) -> Estimate:
    """Return the mean of `values` with its interval, which does not depend on their order.

    Args:
        values: One for each seed.
        level: Confidence level.
        bounds: Range that the score cannot leave. Heaps are looked for in a range with two ends.

    Raises:
        ValueError: If a value is not finite, or lies outside `bounds`.
    """
    ordered = np.sort(np.array(values, dtype=np.float64))
    if not np.isfinite(ordered).all():
        raise ValueError(f"expected finite values to estimate from, got {list(values)}")
    if len(ordered) and not bounds[0] - _EQUAL <= ordered[0] <= ordered[-1] <= bounds[1] + _EQUAL:
        raise ValueError(f"expected values in {bounds[0]:g}..{bounds[1]:g}, got {list(values)}")
    given = tuple(float(value) for value in values)
    if len(ordered) == 0:
        return Estimate(None, None, None, 0, given, "none")
    mean, n = float(ordered.mean()), len(ordered)
    if n < 2:
        return Estimate(mean, None, None, n, given, "none")
    if ordered[-1] - ordered[0] <= _EQUAL:
        return Estimate(mean, None, None, n, given, "equal")
    if np.isfinite(bounds).all() and (heaps := two_heaps(ordered)) is not None:
        return Estimate(mean, None, None, n, given, "heaps", heaps)
    low, high = ends(ordered, bounds=bounds, level=level)
    return Estimate(mean, float(low), float(high), n, given, "t")


def two_heaps(values: Sequence[float] | Floats) -> Heaps | None:
    """Return the heaps on both sides of the largest gap; None where the values fall into none.

    They are called two heaps where the gap is at least `LEAST_GAP`, and takes so much of the range
    of the values that it would in at most one of fifty samples (`FALSE_HEAPS`) of values drawn
    evenly. Of values that lie in one heap far fewer are called so. Two values are never two heaps.

    Args:
        values: Float (n,), shares or differences of shares.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not in_heaps(ordered):
        return None
    cut = int(np.diff(ordered).argmax()) + 1
    below, above = ordered[:cut].tolist(), ordered[cut:].tolist()
    return Heaps(tuple(below), tuple(above), wilson(len(above), len(ordered)))


def in_heaps(ordered: Floats) -> NDArray[np.bool_]:
    """Return which samples fall into two heaps, bool (...).

    Args:
        ordered: Samples, float (..., n), each in increasing order.
    """
    n = ordered.shape[-1]
    if n < 3:
        return np.zeros(ordered.shape[:-1], dtype=np.bool_)
    gap = np.diff(ordered, axis=-1).max(axis=-1)
    # Fisher's bound, solved for the share of the range.
    least = 1 - (FALSE_HEAPS / (n - 1)) ** (1 / (n - 2))
    wide = gap >= LEAST_GAP - _EQUAL
    return np.asarray(wide & (gap >= least * (ordered[..., -1] - ordered[..., 0]) - _EQUAL))


def ends(
    samples: Floats, *, bounds: Bounds = ANYWHERE, level: float = LEVEL
) -> tuple[Floats, Floats]:
    """Return both ends of the interval of the mean, float64 (...) each.

    Args:
        samples: Float64 (..., n), two values at least, within `bounds`.
        bounds: The score's range.
        level: Confidence level.
    """
    low, high = _student(samples, level)
    if np.isfinite(bounds[0]):
        scaled = _scaled(np.clip(samples, *bounds), bounds)
        variance = scaled.var(axis=-1, ddof=1)
        limits = [_mean_of(limit, variance, bounds) for limit in _student(scaled, level)]
        low, high = np.minimum(low, limits[0]), np.maximum(high, limits[1])
    return np.clip(low, *bounds), np.clip(high, *bounds)


def _student(samples: Floats, level: float) -> tuple[Floats, Floats]:
    n = samples.shape[-1]
    mean = samples.mean(axis=-1)
    half = stdtrit(n - 1, (1 + level) / 2) * samples.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def _scaled(values: Floats, bounds: Bounds) -> Floats:
    """Return values on the scale on which they vary alike."""
    low, high = bounds
    if np.isinf(high):
        return np.sqrt(values - low)
    return np.arcsin(np.sqrt(np.clip((values - low) / (high - low), 0, 1)))


def _mean_of(limit: Floats, variance: Floats, bounds: Bounds) -> Floats:
    """Return the mean of a score whose `_scaled` is normal with this mean and variance."""
    low, high = bounds
    if np.isinf(high):
        return low + np.maximum(limit, 0) ** 2 + variance
    turned = np.exp(-2 * variance) * np.cos(2 * np.clip(limit, 0, np.pi / 2))
    return low + (high - low) * (1 - turned) / 2


def difference_bounds(one: Bounds, two: Bounds) -> Bounds:
    """Return the range of a score less another; a constant has twice itself as its range."""
    return one[0] - two[1], one[1] - two[0]


def generator_of(values: Floats, purpose: str) -> np.random.Generator:
    """Return the generator that belongs to `values` and `purpose`, and to nothing else."""
    data = np.ascontiguousarray(values, dtype="<f8").tobytes()
    shape = ",".join(map(str, values.shape)).encode()
    seed = int.from_bytes(hashlib.sha256(shape + b":" + data).digest()[:8], "little")
    return numpy_generator(seed, purpose)


def across_agents(values: Sequence[float]) -> Spread:
    """Return the spread of one game's agents."""
    array = np.array(values, dtype=np.float64)
    if len(array) == 0:
        return Spread(None, None, None, None, 0)
    return Spread(
        float(array.mean()), _std(array), float(array.min()), float(array.max()), len(array)
    )


def _std(values: Floats) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
