"""The rows of all pools of a game, uploaded to the training device once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from learning.pool import Block, Ints, Pool


@dataclass(frozen=True, eq=False)
class UploadedRows:
    """The rows of one training.

    Attributes:
        ids: Row ids, ascending, int64 (n,).
        at: Their positions in the store, int64 (n,).
    """

    ids: Ints
    at: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: np.ndarray) -> UploadedRows:
        """Return the chosen rows (a mask or positions)."""
        return UploadedRows(self.ids[chosen], self.at[chosen])


class RowStore:
    """Rows on the device, addressed by position; equal blocks are stored once.

    Blocks are known by a digest of what they hold, so that pools of different control games share
    their common rows even where a defence made them anew.

    Args:
        shape: Input shape (C, H, W).
        device: Where rows are kept.
        dtype: Floating type of the inputs there.
    """

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._x = torch.empty((0, *shape), device=device, dtype=dtype)
        self._y = torch.empty(0, device=device, dtype=torch.int64)
        self._used = 0
        self._digests: WeakKeyDictionary[Block, bytes] = WeakKeyDictionary()
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return self._used

    def key(self, pool: Pool) -> tuple[bytes, ...]:
        """Return what tells the rows of two pools apart."""
        counts = np.bincount(pool.owner_index, minlength=len(pool.blocks))
        used = [b for b, count in zip(pool.blocks, counts, strict=True) if count]
        ids = hashlib.blake2b(pool.ids.tobytes(), digest_size=16).digest()
        return (ids, *(self._digest(block) for block in used))

    def add(self, pool: Pool) -> UploadedRows:
        """Upload the blocks that are new and return where the pool's rows are."""
        counts = np.bincount(pool.owner_index, minlength=len(pool.blocks))
        shifts = [
            self._offset(block) - block.first_id if count else 0
            for block, count in zip(pool.blocks, counts, strict=True)
        ]
        return UploadedRows(pool.ids, pool.ids + np.repeat(np.asarray(shifts, np.int64), counts))

    def batch(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs (*at.shape, C, H, W) and labels (*at.shape,) of positions `at`."""
        flat = at.flatten()
        x = self._x.index_select(0, flat).view(*at.shape, *self._x.shape[1:])
        return x, self._y.index_select(0, flat).view(at.shape)

    def _digest(self, block: Block) -> bytes:
        if block not in self._digests:
            whole = hashlib.blake2b(str((block.first_id, block.x.shape)).encode(), digest_size=16)
            whole.update(block.y.tobytes())
            whole.update(np.ascontiguousarray(block.x).data)
            self._digests[block] = whole.digest()
        return self._digests[block]

    def _offset(self, block: Block) -> int:
        digest = self._digest(block)
        if digest not in self._offsets:
            self._offsets[digest] = self._append(block)
        return self._offsets[digest]

    def _append(self, block: Block) -> int:
        start, end = self._used, self._used + len(block.y)
        if end > len(self._y):
            self._grow(max(end, 3 * len(self._y) // 2))
        self._x[start:end] = torch.from_numpy(np.ascontiguousarray(block.x)).to(self._x.device)
        self._y[start:end] = torch.from_numpy(np.ascontiguousarray(block.y)).to(self._y.device)
        self._used = end
        return start

    def _grow(self, capacity: int) -> None:
        x = self._x.new_empty((capacity, *self._x.shape[1:]))
        y = self._y.new_empty(capacity)
        x[: self._used], y[: self._used] = self._x[: self._used], self._y[: self._used]
        self._x, self._y = x, y
