"""Many agents' inputs as one, without joining them in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learning.pool import Floats, Ints


class ScoredRows:
    """The inputs of several arrays, numbered through; a batch is copied out when it is needed."""

    def __init__(self, parts: Sequence[Floats]) -> None:
        """Refer to the arrays, float32 (n_i, C, H, W) each."""
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, index: Ints) -> Floats:
        """Return the rows of these numbers, in order, float32 (k, C, H, W), a fresh array."""
        owner = np.searchsorted(self._ends, index, side="right")
        cuts = np.flatnonzero(np.diff(owner)) + 1
        pieces = []
        for part, rows in zip(owner[np.r_[0, cuts]], np.split(index, cuts), strict=True):
            start = self._ends[part] - len(self._parts[part])
            pieces.append(self._parts[part][rows - start])
        return np.concatenate(pieces)
