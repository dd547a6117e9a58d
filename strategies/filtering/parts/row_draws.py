"""Random draws for the rows of a pool that follow what a row holds, not where it stands.

A draw keyed by position or id would make a filter's verdict depend on the order in which agents
hand in their rows, and the control games, which leave agents out, would draw anew for the rows
that they share. The key is the defender's, so that no agent can choose a row for its draws.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from learning.pool import Bools, Ints, Pool
from strategies.base import Defender
from strategies.filtering.parts.principal import Doubles

_Words = NDArray[np.uint64]


class RowDraws:
    """Draws for the rows of one pool; rows that hold the same take turns in ascending order.

    Args:
        pool: The rows.
        defender: Gives the key.
    """

    def __init__(self, pool: Pool, defender: Defender) -> None:
        self._key = defender.numpy_generator("rows").bytes(32)
        words = np.empty(len(pool), np.uint64)
        for row, (image, label) in enumerate(zip(pool.x, pool.y, strict=True)) if len(pool) else ():
            words[row] = self._word(np.ascontiguousarray(image).tobytes() + label.tobytes())
        self._words = _mixed(words + _turns(words) * np.uint64(0x9E3779B97F4A7C15))

    def uniform(self, purpose: str) -> Doubles:
        """Return one draw for each row, float64 (n,) in [0, 1); a purpose gives the same again."""
        words = _mixed(self._words ^ np.uint64(self._word(purpose.encode())))
        return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def sample(self, purpose: str, among: Bools, count: int) -> Bools:
        """Draw rows without replacement.

        Args:
            purpose: What the draw is for.
            among: Rows to draw from, bool (n,).
            count: How many; all of them where there are fewer.

        Returns:
            The rows drawn, bool (n,).
        """
        rows = np.flatnonzero(among)
        drawn = rows[np.argsort(self.uniform(purpose)[rows], kind="stable")[:count]]
        out = np.zeros(len(among), np.bool_)
        out[drawn] = True
        return out

    def _word(self, content: bytes) -> int:
        digest = hashlib.blake2b(content, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little")


def _turns(words: _Words) -> _Words:
    """Return for each row how many rows with the same word come before it."""
    order: Ints = np.argsort(words, kind="stable").astype(np.int64)
    ranked = words[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(words)])
    sizes = np.diff(np.concatenate([starts, [len(words)]]))
    turns = np.empty(len(words), np.uint64)
    turns[order] = np.arange(len(words)) - np.repeat(starts, sizes)
    return turns


def _mixed(words: _Words) -> _Words:
    """Scramble 64-bit words, one to one (the finaliser of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
