"""How a share becomes a count: one rule for rows, agents, pixels, coordinates and epochs.

A share is a decimal that somebody wrote: 29 % of 100 rows are 29, although 0.29 * 100 is
28.999999999999996 in binary. So the product is first freed from the noise of binary fractions, and
then rounded to the nearest integer, halves up: half of five is three. Where a paper or its code
rounds otherwise, the caller asks for ``floor`` or ``ceil``. A least or a greatest count is the
caller's own business and stands where it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learning.pool import Ints

Rounding = Literal["nearest", "floor", "ceil"]

# A share is known to this many units of rounding at 1: sums and differences of a few shares are.
_NOISE: Final = 16 * float(np.finfo(np.float64).eps)

# What is added before the fraction is cut off.
_ADDED: Final[Mapping[str, float]] = MappingProxyType({"nearest": 0.5, "floor": 0.0})


def count_of(share: float, total: float, *, rounding: Rounding | str = "nearest") -> int:
    """Return how many of `total` things a share is.

    Args:
        share: Any finite number; a share in the strict sense lies in [0, 1].
        total: Of how many, >= 0; may be fractional (rows of an average agent).
        rounding: ``nearest`` (halves up), ``floor`` or ``ceil``.

    Raises:
        ValueError: If the rounding is none of these, or the product is not finite.
    """
    return int(counts_of(share, total, rounding=rounding))


def counts_of(shares: ArrayLike, total: float, *, rounding: Rounding | str = "nearest") -> Ints:
    """Return `count_of` each share, int64 in the shape of `shares`."""
    each = np.asarray(shares, np.float64)
    exact = _without_noise(each, total)
    if rounding == "ceil":
        return np.asarray(np.ceil(exact), np.int64)
    if rounding not in _ADDED:
        raise ValueError(f"expected rounding nearest, floor or ceil, got {rounding!r}")
    return np.asarray(np.floor(exact + _ADDED[rounding]), np.int64)


def _without_noise(shares: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Return shares * total; what lies next to an integer or a half becomes that."""
    exact = np.asarray(shares * total, np.float64)
    if not np.isfinite(exact).all():
        raise ValueError(f"expected a finite share of a finite number, got {shares} of {total}")
    halves = np.rint(2 * exact) / 2
    noise = _NOISE * total * np.maximum(np.abs(shares), 1)
    return np.where(np.abs(exact - halves) <= noise, halves, exact)


def apportioned(total: int, sizes: ArrayLike) -> Ints:
    """Return how a number of things is spread over parts in proportion to their sizes.

    Largest remainders: each part gets the whole number of its quota ``total * size / sum``, the
    things that are left go to the largest remainders, and of equal ones to the first. A part of
    size 0 gets nothing, and where `total` is at most the sum no part gets more than its size.

    Args:
        total: How many things, >= 0.
        sizes: One or more integers >= 0, not all 0 unless `total` is.

    Returns:
        int64, of the length of `sizes`; it sums to `total`.

    Raises:
        ValueError: If there are things but no part to give them to.
    """
    weights = np.asarray(sizes, np.int64)
    whole = int(weights.sum())
    if not whole:
        if total:
            raise ValueError(f"expected a part for {total} things, got parts of size 0")
        return np.zeros_like(weights)
    quotas, remainders = np.divmod(total * weights, whole)
    largest = np.argsort(-remainders, kind="stable")
    quotas[largest[: total - int(quotas.sum())]] += 1
    return quotas
