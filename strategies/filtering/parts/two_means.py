"""Two clusters, whatever the order of the rows, and independent components."""

from __future__ import annotations

import warnings

import numpy as np

from learning.pool import Bools, Floats, Ints
from strategies.filtering.parts.principal import Doubles

# scikit-learn is imported where it is used: it is slow to load, and listing methods needs none.


def in_own_order(rows: Ints, features: Floats) -> Ints:
    """Sort rows by the bytes of their features, so that their order in the pool does not matter.

    2-means starts from rows picked by position, and sums depend on their order in the last bit.

    Args:
        rows: Positions, int64 (n,).
        features: float (pool, d).
    """
    packed = np.ascontiguousarray(features[rows])
    keys = packed.view([("", np.void, packed.itemsize * packed.shape[1])])[:, 0]
    return rows[np.argsort(keys, kind="stable")]


def independent(principal: Doubles, seed: int) -> Doubles:
    """Rotate principal components (n, k) to independent ones of variance 1 (FastICA)."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # A rotation that has not settled shows in the reported stability of the clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FastICA(whiten="unit-variance", random_state=seed)
        return np.asarray(model.fit_transform(principal), np.float64)


def smaller_of_two(points: Doubles, n_init: int, seed: int) -> Bools:
    """Return which rows of `points`, (n, k), fall into the smaller of two clusters, bool (n,).

    Of two clusters of one size, the one further along the first coordinate is returned.

    Args:
        points: At least two different rows.
        n_init: Restarts, of which the best is kept.
        seed: Of the random starts.
    """
    from sklearn.cluster import KMeans

    second: Bools = KMeans(2, n_init=n_init, random_state=seed).fit_predict(points) == 1
    sizes = (int((~second).sum()), int(second.sum()))
    if sizes[0] == sizes[1]:
        return second if points[second, 0].mean() > points[~second, 0].mean() else ~second
    return second if sizes[1] < sizes[0] else ~second
