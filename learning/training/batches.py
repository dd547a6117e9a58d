"""One epoch's batches of several trainings, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learning.pool import Ints
from learning.seeds import torch_generator
from learning.training.augment import change, draw_changes
from learning.training.job import BatchHook
from learning.training.order import batch_sizes, visiting_order
from learning.training.rows import Rows, RowStore
from learning.training.spec import AugmentImages

_LANES = 64  # small pools are padded to a multiple of this, not to a huge batch size


@dataclass(frozen=True, eq=False)
class Member:
    """One training of a group.

    Attributes:
        rows: Rows to train on.
        held: Rows held out for validation; may be empty.
        purpose: Of its batch order.
    """

    rows: Rows
    held: Rows
    purpose: str


@dataclass(frozen=True, eq=False)
class Batch:
    """One step of the first m trainings.

    Attributes:
        x: Inputs (m, b, C, H, W).
        labels: Hard labels (m, b); where hooks mix labels, the likeliest of each target.
        targets: Soft labels (m, b, classes) where hooks are at work, else None.
        weights: What each row's loss counts, (m, b): 1 / rows of its batch, 0 for padding.
    """

    x: Tensor
    labels: Tensor
    targets: Tensor | None
    weights: Tensor


@dataclass(frozen=True, eq=False)
class BatchMaker:
    """Makes the batches that all epochs of a group consist of.

    Attributes:
        store: Holds the rows.
        seed: The game's seed.
        classes: Number of classes.
        batch_size: Rows of a full batch.
        augment: Changes of images.
        hooks: Applied to each training's own batch, in order.
        width: Models trained as one have all their batches padded to this width, see
            `padded_width`; None where each batch stays as wide as it is.
        join_single: See `batch_sizes`.
    """

    store: RowStore
    seed: int
    classes: int
    batch_size: int
    augment: AugmentImages
    hooks: tuple[BatchHook, ...]
    width: int | None
    join_single: bool

    def _sizes(self, member: Member) -> list[int]:
        return batch_sizes(len(member.rows), self.batch_size, join_single=self.join_single)

    def training(
        self, members: Sequence[Member], epoch: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield an epoch's batches; `members` in descending order of their number of rows."""
        orders = [visiting_order(self.seed, m.purpose, epoch, m.rows.ids) for m in members]
        sizes = _table([self._sizes(m) for m in members])
        full = self.width or int(sizes.max())
        at = [m.rows.at[order] for m, order in zip(members, orders, strict=True)]
        places = torch.from_numpy(_padded(at, sizes, full)).to(device)
        changes = self._changes(members, orders, sizes, full, epoch)
        draws = [torch_generator(self.seed, f"hooks/{m.purpose}", round=epoch) for m in members]
        for step in range(sizes.shape[1]):
            counts = sizes[sizes[:, step] > 0, step]
            m, width = len(counts), self.width or int(counts.max())
            x, y = self.store.batch(places[:m, step, :width])
            if changes is not None:
                moved = changes[:m, step, :width].to(device)
                x = change(x.flatten(0, 1), moved.flatten(0, 1), self.augment).view_as(x)
            yield self._mixed(x, y, counts, draws)

    def held_out(self, members: Sequence[Member], device: torch.device) -> Iterator[Batch]:
        """Yield the validation rows of all trainings, plainly; weights are 1 and 0."""
        chunk = self.width or self.batch_size
        width = -(-max(len(m.held) for m in members) // chunk) * chunk
        sizes = np.array([[len(m.held)] for m in members], np.int64)
        at = torch.from_numpy(_padded([m.held.at for m in members], sizes, width)[:, 0]).to(device)
        real = torch.arange(width) < torch.from_numpy(sizes)
        for start in range(0, width, chunk):
            part = slice(start, start + chunk)
            x, y = self.store.batch(at[:, part])
            yield Batch(x, y, None, real[:, part].to(device, x.dtype))

    def _changes(
        self, members: Sequence[Member], orders: Sequence[Ints], sizes: Ints, width: int, epoch: int
    ) -> Tensor | None:
        if self.augment == AugmentImages():
            return None
        drawn = [
            draw_changes(self.augment, self.seed, m.purpose, epoch, m.rows.ids)[order]
            for m, order in zip(members, orders, strict=True)
        ]
        return torch.from_numpy(_padded(drawn, sizes, width))

    def _mixed(self, x: Tensor, y: Tensor, counts: Ints, draws: Sequence[torch.Generator]) -> Batch:
        weights = _row_weights(counts, x)
        if not self.hooks:
            return Batch(x, y, None, weights)
        targets = torch.nn.functional.one_hot(y, self.classes).to(x.dtype)
        x = x.clone()
        for k, count in enumerate(counts.tolist()):
            mine = x[k, :count], targets[k, :count]
            for hook in self.hooks:
                mine = hook.mix(*mine, draws[k])
            x[k, :count], targets[k, :count] = mine
        return Batch(x, targets.argmax(-1), targets, weights)


def padded_width(rows: int, batch_size: int) -> int:
    """Return how wide the batches of a training are in a stack.

    It depends on the training's own number of rows alone, so that its arithmetic, down to the
    order of sums, does not depend on which others are beside it.
    """
    return min(batch_size, -(-rows // _LANES) * _LANES)


def _row_weights(counts: Ints, x: Tensor) -> Tensor:
    real = np.arange(x.shape[1]) < counts[:, None]
    return torch.from_numpy(real / counts[:, None]).to(x.dtype).to(x.device)


def _table(sizes: Sequence[Sequence[int]]) -> Ints:
    """Return batch sizes as a table (K, steps), 0 where a training has no batch any more."""
    table = np.zeros((len(sizes), max(map(len, sizes))), np.int64)
    for k, own in enumerate(sizes):
        table[k, : len(own)] = own
    return table


def _padded(values: Sequence[Ints], sizes: Ints, width: int) -> Ints:
    """Cut each training's values (n, ...) into batches: (K, steps, width, ...)."""
    out = np.zeros((*sizes.shape, width, *values[0].shape[1:]), np.int64)
    for k, own in enumerate(values):
        ends = np.cumsum(sizes[k])
        for step, end in enumerate(ends.tolist()):
            size = sizes[k, step]
            out[k, step, :size] = own[end - size : end]
    return out
