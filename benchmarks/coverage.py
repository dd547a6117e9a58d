"""How often 95 % intervals over seeds hold the true mean, and how often seeds are called two heaps.

Each line is a distribution that scores of games can have, with the share of samples whose interval
holds its mean. Where no interval is given (equal values, two heaps) nothing is claimed: those
samples are counted apart and are not among the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backfire.evidence.estimates import GAP, SHARE, Bounds, ends, in_heaps

SEEDS = (2, 3, 4, 5, 7, 10, 20)
SAMPLES = 20_000
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]


class Case(NamedTuple):
    """A distribution of scores over seeds.

    Attributes:
        draw: Returns samples, float64 of the shape asked for.
        mean: Its mean.
        bounds: The score's range.
        wanted: Coverage that is asked for at 3 seeds and more; None where no interval is honest.
    """

    draw: Draw
    mean: float
    bounds: Bounds = SHARE
    wanted: float | None = None


def _learned(chance: float, low: float, high: float, spread: float) -> Draw:
    def draw(generator: np.random.Generator, shape: tuple[int, int]) -> Floats:
        centre = np.where(generator.random(shape) < chance, high, low)
        return np.asarray(np.clip(centre + generator.normal(0, spread, shape), 0, 1))

    return draw


def _clipped_mean(draw: Draw) -> float:
    """Return the mean of a distribution that is cut to 0..1, from a million values."""
    return float(draw(np.random.default_rng(99), (1000, 1000)).mean())


CASES: Mapping[str, Case] = {
    "normal, 50 ± 10 %": Case(lambda g, s: g.normal(0.5, 0.1, s).clip(0, 1), 0.5, SHARE, 0.94),
    "Beta(8, 2): mean 80 %": Case(lambda g, s: g.beta(8, 2, s), 0.8, SHARE, 0.92),
    "Beta(2, 8): mean 20 %": Case(lambda g, s: g.beta(2, 8, s), 0.2, SHARE, 0.92),
    "Beta(30, 1): mean 97 %": Case(lambda g, s: g.beta(30, 1, s), 30 / 31, SHARE, 0.88),
    "near 98 % of 200 inputs": Case(
        lambda g, s: g.binomial(200, g.beta(60, 1.5, s)) / 200, 60 / 61.5, SHARE, 0.88
    ),
    "uniform, 0 to 100 %": Case(lambda g, s: g.random(s), 0.5, SHARE, 0.92),
    "difference of normals, 0 ± 14 points": Case(
        lambda g, s: g.normal(0.5, 0.1, s) - g.normal(0.5, 0.1, s), 0.0, GAP, 0.94
    ),
    "Beta(8, 2) less Beta(2, 8): 60 points": Case(
        lambda g, s: g.beta(8, 2, s) - g.beta(2, 8, s), 0.6, GAP, 0.92
    ),
    "Beta(30, 1) less Beta(1, 30): 94 points": Case(
        lambda g, s: g.beta(30, 1, s) - g.beta(1, 30, s), 29 / 31, GAP, 0.88
    ),
    "skewed, Beta(0.5, 5): mean 9 %": Case(lambda g, s: g.beta(0.5, 5, s), 0.5 / 5.5),
}
HEAPS: Mapping[str, Draw] = {
    "learned in 3 of 4: 95 ± 3 or 10 ± 3 %": _learned(0.75, 0.10, 0.95, 0.03),
    "learned in 3 of 4: 90 ± 5 or 15 ± 5 %": _learned(0.75, 0.15, 0.90, 0.05),
    "stopped in 9 of 10: 2 ± 2 or 90 ± 2 %": _learned(0.9, 0.90, 0.02, 0.02),
    "half, 80 ± 10 or 20 ± 10 %": _learned(0.5, 0.20, 0.80, 0.10),
}
_TINY = 1e-12


class Found(NamedTuple):
    """What came of the samples of one distribution and one number of seeds.

    Attributes:
        covered: Share of the intervals that hold the mean; NaN without intervals.
        width: Mean width of the intervals.
        equal: Share of samples without an interval, as all values are the same.
        heaps: Share of samples that were called two heaps.
    """

    covered: float
    width: float
    equal: float
    heaps: float


def measured(case: Case, seeds: int, samples: int = SAMPLES, key: int = 0) -> Found:
    """Return how the interval of `seeds` values fares, by the code that makes every interval.

    Args:
        case: The distribution.
        seeds: Values in a sample.
        samples: Number of samples.
        key: Of the generator.
    """
    drawn = np.sort(case.draw(np.random.default_rng([key, seeds]), (samples, seeds)), axis=-1)
    equal = drawn[:, -1] - drawn[:, 0] <= _TINY
    heaps = in_heaps(drawn) & ~equal
    low, high = ends(drawn[~equal & ~heaps], bounds=case.bounds)
    held = (low - _TINY <= case.mean) & (case.mean <= high + _TINY)
    covered = float(held.mean()) if len(held) else float("nan")
    width = float((high - low).mean()) if len(held) else float("nan")
    return Found(covered, width, float(equal.mean()), float(heaps.mean()))


def run(quick: bool) -> dict:
    """Measure all distributions; `quick` draws a twentieth of the samples."""
    samples = SAMPLES // 20 if quick else SAMPLES
    rows = []
    for name, case in _cases().items():
        found = {seeds: measured(case, seeds, samples) for seeds in SEEDS}
        rows += [
            {"scores": name, "what": what, "asked for": asked}
            | {f"n = {seeds}": show(one) for seeds, one in found.items()}
            for what, asked, show in _shown(case)
        ]
    return {
        "name": "coverage of the 95 % intervals over seeds",
        "rows": rows,
        "note": f"{samples:,} samples in each cell; the binomial error of a cell is "
        f"{100 * 1.96 * (0.05 * 0.95 / samples) ** 0.5:.1f} points at 95 %. Samples that are "
        "called two heaps, or whose values are all the same, have no interval.",
    }


def _cases() -> dict[str, Case]:
    return {**CASES, **{name: Case(draw, _clipped_mean(draw)) for name, draw in HEAPS.items()}}


def _shown(case: Case) -> list[tuple[str, str, Callable[[Found], str]]]:
    asked = "" if case.wanted is None else f"{100 * case.wanted:.0f} %"
    return [
        ("interval holds the mean", asked, lambda one: _percent(one.covered)),
        ("its width, points", "", lambda one: _percent(one.width)),
        ("called two heaps", "", lambda one: _percent(one.heaps)),
    ]


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
