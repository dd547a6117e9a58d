"""Rows that were contributed to a joint data set, and who contributed them.

A pool is a tuple of blocks, one for each contributor. Row ids are given by the registered shares
(a block's `first_id` onward), so a row keeps its id whatever is filtered, replaced or left out:
defences name rows by id, never by position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DEFENDER = "defender"

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Block:
    """One contributor's rows.

    Attributes:
        owner: Agent name, or `DEFENDER`.
        first_id: Id of the first row; row k has id ``first_id + k``.
        x: Inputs, float32 (n, C, H, W), in [0, 1]. Never written to.
        y: Labels, int64 (n,).
    """

    owner: str
    first_id: int
    x: Floats
    y: Ints

    def __post_init__(self) -> None:
        if self.x.dtype != np.float32 or self.x.ndim != 4 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                f"expected x float32 (n, C, H, W) and y (n,), got {self.x.dtype} {self.x.shape} "
                f"and {self.y.shape} of {self.owner!r}"
            )

    @property
    def ids(self) -> Ints:
        """Row ids, int64 (n,)."""
        return np.arange(self.first_id, self.first_id + len(self.y), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Pool:
    """The joint data set that a defender trains on.

    Attributes:
        blocks: Contributions in order of `first_id`, with disjoint ids.
        classes: Number of classes; labels lie in 0..classes-1.
        removed: Ids that defences have taken out, ascending.
    """

    blocks: tuple[Block, ...]
    classes: int
    removed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ends = -1
        for block in self.blocks:
            if block.first_id <= ends:
                raise ValueError(f"rows of {block.owner!r} overlap those before them")
            ends = block.first_id + len(block.y) - 1

    @cached_property
    def _kept(self) -> tuple[Bools, ...]:
        removed = np.asarray(self.removed, dtype=np.int64)
        first = np.asarray([block.first_id for block in self.blocks], dtype=np.int64)
        rows = np.asarray([len(block.y) for block in self.blocks], dtype=np.int64)
        # A thousand leave-one-out pools of a thousand blocks: one search for all blocks of a pool.
        low, high = np.searchsorted(removed, first), np.searchsorted(removed, first + rows)
        masks = tuple(np.ones(len(block.y), np.bool_) for block in self.blocks)
        for k in np.flatnonzero(high > low):
            masks[k][removed[low[k] : high[k]] - first[k]] = False
        return masks

    @cached_property
    def _counts(self) -> Ints:
        return np.asarray([np.count_nonzero(kept) for kept in self._kept], np.int64)

    @cached_property
    def ids(self) -> Ints:
        """Ids of the rows still in the pool, ascending, int64 (n,)."""
        parts = [block.ids[kept] for block, kept in zip(self.blocks, self._kept, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    @cached_property
    def x(self) -> Floats:
        """Inputs in the order of `ids`, float32 (n, C, H, W)."""
        parts = [block.x[kept] for block, kept in zip(self.blocks, self._kept, strict=True)]
        return np.concatenate(parts)

    @cached_property
    def y(self) -> Ints:
        """Labels in the order of `ids`, int64 (n,)."""
        parts = [block.y[kept] for block, kept in zip(self.blocks, self._kept, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    @property
    def owners(self) -> tuple[str, ...]:
        """Contributors, in the order of their blocks."""
        return tuple(block.owner for block in self.blocks)

    @cached_property
    def owner_index(self) -> Ints:
        """For each row, the position of its contributor in `owners`, int64 (n,)."""
        return np.repeat(np.arange(len(self._counts), dtype=np.int64), self._counts)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def without_rows(self, ids: Iterable[int]) -> Pool:
        """Return the pool without the rows of these ids.

        Raises:
            ValueError: If an id is not in the pool.
        """
        drop = {int(i) for i in ids}
        unknown = drop.difference(self.ids.tolist())
        if unknown:
            raise ValueError(f"expected ids of the pool, got {sorted(unknown)[:5]}")
        return replace(self, removed=tuple(sorted(drop.union(self.removed))))

    def without_owner(self, owner: str) -> Pool:
        """Return the pool without one contributor's block."""
        return replace(self, blocks=tuple(b for b in self.blocks if b.owner != owner))

    def only_owners(self, owners: Iterable[str]) -> Pool:
        """Return the pool of these contributors alone."""
        keep = frozenset(owners)
        return replace(self, blocks=tuple(b for b in self.blocks if b.owner in keep))

    def with_block(self, block: Block) -> Pool:
        """Return the pool with the block of the same owner replaced by `block`."""
        if block.owner not in self.owners:
            raise ValueError(f"{block.owner!r} has no block to replace")
        blocks = tuple(block if old.owner == block.owner else old for old in self.blocks)
        return replace(self, blocks=blocks)

    def block(self, owner: str) -> Block:
        """Return one contributor's block.

        Raises:
            KeyError: If the contributor has none.
        """
        for block in self.blocks:
            if block.owner == owner:
                return block
        raise KeyError(owner)
