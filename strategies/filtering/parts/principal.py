"""Projections on the directions of most variance, from the smaller of the two Gram matrices."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

# Spread below this share of the largest magnitude is the rounding error of a mean.
ROUNDING = 1e-12
# Variance below this share of the largest is the rounding error of an eigenvalue.
NO_VARIANCE = 1e-10


def centre(features: NDArray[np.floating]) -> Doubles:
    """Return the rows minus their mean, float64 (n, d); exactly 0 where all rows are alike."""
    rows: Doubles = np.array(features, np.float64)
    if not rows.size:
        return rows
    largest = max(float(rows.max()), -float(rows.min()))
    rows -= rows.mean(axis=0)
    if max(float(rows.max()), -float(rows.min())) <= ROUNDING * largest:
        rows[:] = 0
    return rows


def project(centred: Doubles, components: int) -> Doubles:
    """Project rows on their top right singular vectors.

    Args:
        centred: float64 (n, d).
        components: Directions at most; those without variance are left out.

    Returns:
        float64 (n, k), k <= components, of falling variance. In each column the entry of largest
        magnitude is positive, so that the order of the rows does not change their values.
    """
    rows, width = centred.shape
    side = min(rows, width)
    if not centred.any():
        return np.zeros((rows, 0))
    gram = centred.T @ centred if width <= rows else centred @ centred.T
    top = [max(0, side - components), side - 1]
    values, vectors = scipy.linalg.eigh(
        gram, subset_by_index=top, overwrite_a=True, check_finite=False
    )
    carried = values > NO_VARIANCE * values[-1]
    values, vectors = values[carried][::-1], vectors[:, carried][:, ::-1]
    out = centred @ vectors if width <= rows else vectors * np.sqrt(values)
    signs = np.sign(out[np.abs(out).argmax(axis=0), np.arange(out.shape[1])])
    return np.asarray(out * signs, np.float64)
