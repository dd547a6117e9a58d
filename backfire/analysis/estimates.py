"""A score over seeds: its mean and 95 % interval; and a score's spread across agents, kept apart.

An interval here speaks of *seeds*: what another play of the same scenario would give. How much
the agents of one game differ from each other is a `Spread`, and no interval of the mean: the
agents of one game meet in one model, so they are no independent draws.

Sources:
    BCa: B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987) 171-185, by
        `scipy.stats.bootstrap`. It is used from five values on; below that there are too few
        resamples to speak of tails.
    t: Student, "The probable error of a mean", Biometrika 6 (1908) 1-25.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from learning.seeds import numpy_generator
from learning.statistics import LEVEL

# From this many values on the interval is a bootstrap.
BOOTSTRAP_FROM: Final = 5
RESAMPLES: Final = 9999
# Means of equal numbers differ in their last digits; scores are of the order of one.
_EQUAL: Final = 1e-12

Method = Literal["none", "equal", "t", "bca"]
Bounds = tuple[float, float]
ANYWHERE: Final[Bounds] = (float("-inf"), float("inf"))
SHARE: Final[Bounds] = (0.0, 1.0)
GAP: Final[Bounds] = (-1.0, 1.0)
AMOUNT: Final[Bounds] = (0.0, float("inf"))


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its confidence interval.

    Attributes:
        value: The mean; None without values.
        low: Lower end; None for fewer than two values.
        high: Upper end; None for fewer than two values.
        n: Number of values (seeds).
        values: The values themselves, as they were given.
        method: How the interval was made. ``equal``: all values are the same, and the interval
            has no width; that is what was seen, and no proof that another seed gives the same.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    values: tuple[float, ...]
    method: Method

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (n - 1); None for fewer than two."""
        return _std(np.array(self.values))

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
    """Return the mean of `values` with its interval.

    The resamples are drawn by a generator that is keyed by the values, so that the same values,
    in any order, always have the same interval.

    Args:
        values: One for each seed.
        level: Confidence level.
        bounds: Range that the score cannot leave; ends of the interval are cut to it.

    Raises:
        ValueError: If a value is not finite, or lies outside `bounds`.
    """
    # In order of size, so that the interval does not depend on the order of the seeds.
    ordered = np.sort(np.array(values, dtype=np.float64))
    if not np.isfinite(ordered).all():
        raise ValueError(f"expected finite values to estimate from, got {list(values)}")
    if len(ordered) and not bounds[0] - _EQUAL <= ordered[0] <= ordered[-1] <= bounds[1] + _EQUAL:
        raise ValueError(f"expected values in {bounds[0]:g}..{bounds[1]:g}, got {list(values)}")
    given = tuple(float(value) for value in values)
    if len(ordered) == 0:
        return Estimate(None, None, None, 0, given, "none")
    mean = float(ordered.mean())
    method = _method(ordered)
    low, high = _ends(ordered, mean, method, level)
    if low is not None and high is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(mean, low, high, len(ordered), given, method)


def _method(ordered: NDArray[np.float64]) -> Method:
    if len(ordered) < 2:
        return "none"
    if ordered[-1] - ordered[0] <= _EQUAL:
        return "equal"
    return "bca" if len(ordered) >= BOOTSTRAP_FROM else "t"


def _ends(
    ordered: NDArray[np.float64], mean: float, method: Method, level: float
) -> tuple[float | None, float | None]:
    if method == "none":
        return None, None
    if method == "equal":
        return mean, mean
    if method == "t":
        half = float(stats.t.ppf((1 + level) / 2, len(ordered) - 1) * stats.sem(ordered))
        return mean - half, mean + half
    found = stats.bootstrap(
        (ordered,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="BCa",
        vectorized=True,
        rng=generator_of(ordered, "bootstrap of a mean"),
    ).confidence_interval
    return float(found.low), float(found.high)


def generator_of(values: NDArray[np.float64], purpose: str) -> np.random.Generator:
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


def _std(values: NDArray[np.float64]) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
