"""Which rows are in which of a training's batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learning.pool import Ints
from learning.training.batches.augment import draw_changes
from learning.training.batches.order import visiting_order
from learning.training.batches.rows import UploadedRows
from learning.training.spec import AugmentImages


@dataclass(frozen=True, eq=False)
class Member:
    """One training of a group.

    Attributes:
        rows: Rows to train on.
        held: Rows held out for validation; may be empty.
        purpose: Of its batch order.
    """

    rows: UploadedRows
    held: UploadedRows
    purpose: str


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Some consecutive batches of one training, n rows in all.

    Attributes:
        at: Positions of their rows in the store, int64 (n,).
        sizes: Rows of each batch, int64 (batches,).
        changes: What is done to each row's image, int64 (n, 3), or None for nothing.
    """

    at: Ints
    sizes: Ints
    changes: Ints | None


def strip(
    seed: int, augment: AugmentImages, member: Member, sizes: Ints, steps: range
) -> BatchPlan:
    """Return the batches of a training's steps, which may span epochs.

    Args:
        seed: The game's seed.
        augment: Changes of images.
        member: The training.
        sizes: Rows of each batch of one of its epochs.
        steps: Counted over the whole training; step s is batch ``s % len(sizes)`` of epoch
            ``s // len(sizes)``.
    """
    count, ends = len(sizes), np.concatenate([[0], np.cumsum(sizes)])
    ids, changed = member.rows.ids, augment != AugmentImages()
    at, cut, changes = [], [], []
    for epoch in range(steps.start // count, -(-steps.stop // count)):
        first = max(steps.start - epoch * count, 0)
        last = min(steps.stop - epoch * count, count)
        order = visiting_order(seed, member.purpose, epoch, ids)[ends[first] : ends[last]]
        at.append(member.rows.at[order])
        cut.append(sizes[first:last])
        if changed:
            changes.append(draw_changes(augment, seed, member.purpose, epoch, ids)[order])
    every = np.concatenate(changes) if changed else None
    return BatchPlan(np.concatenate(at), np.concatenate(cut), every)


def table(sizes: Sequence[Ints]) -> Ints:
    """Return batch sizes as a table (K, steps), 0 where a training has no batch any more."""
    out = np.zeros((len(sizes), max(map(len, sizes))), np.int64)
    for k, own in enumerate(sizes):
        out[k, : len(own)] = own
    return out


def padded(values: Sequence[Ints], sizes: Ints, width: int) -> Ints:
    """Cut each training's values (n, ...) into batches: (K, steps, width, ...)."""
    out = np.zeros((*sizes.shape, width, *values[0].shape[1:]), np.int64)
    for k, own in enumerate(values):
        ends = np.cumsum(sizes[k])
        for step, end in enumerate(ends.tolist()):
            size = sizes[k, step]
            out[k, step, :size] = own[end - size : end]
    return out
