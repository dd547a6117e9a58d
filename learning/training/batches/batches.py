"""The batches of several trainings, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from learning.pool import Ints
from learning.seeds import torch_generator
from learning.training.batches.augment import change
from learning.training.batches.order import batch_sizes
from learning.training.batches.plans import Member, padded, strip, table
from learning.training.batches.rows import RowStore
from learning.training.job import BatchHook
from learning.training.length import Length
from learning.training.spec import AugmentImages

_LANES = 64  # small pools are padded to a multiple of this, not to a huge batch size
_LAP = 32  # steps that are prepared at a time, at least


@dataclass(frozen=True, eq=False)
class Batch:
    """One step of the first m trainings.

    Attributes:
        x: Inputs (m, b, C, H, W).
        labels: Hard labels (m, b); where hooks mix labels, the likeliest of each target.
        targets: Soft labels (m, b, classes) where hooks are at work, else None.
        weights: What each row's loss counts, (m, b): 1 / rows of its batch, 0 for padding.
        epoch: Epoch that the first training is in, from 0.
        others: Other versions of the same rows; the one with the largest loss counts, row by row.
    """

    x: Tensor
    labels: Tensor
    targets: Tensor | None
    weights: Tensor
    epoch: int = 0
    others: tuple[Batch, ...] = ()


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

    def batches(self, member: Member) -> int:
        """Return a training's number of batches in an epoch."""
        return len(self._sizes(member))

    def rows_seen(self, member: Member, steps: int) -> int:
        """Return how many rows, repetitions counted, the first steps of a training see."""
        sizes = self._sizes(member)
        epochs, rest = divmod(steps, len(sizes))
        return epochs * len(member.rows) + int(sizes[:rest].sum())

    def training(
        self, members: Sequence[Member], length: Length, span: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield a span's batches, each training's own ones in its own epochs.

        Args:
            members: In descending order of their number of rows.
            length: Of their trainings.
            span: Which part of it, from 0.
            device: Where batches are needed.
        """
        epochs = [self.batches(m) for m in members]
        spans = [length.span(span, batches) for batches in epochs]
        lap, draws = max(_LAP, *epochs), list[torch.Generator]()
        for start in range(0, len(spans[0]), lap):
            steps = [own[start : start + lap] for own in spans]
            yield from self._lap(members, steps, draws, device)

    def _sizes(self, member: Member) -> Ints:
        sizes = batch_sizes(len(member.rows), self.batch_size, join_single=self.join_single)
        return np.asarray(sizes, np.int64)

    def _lap(
        self,
        members: Sequence[Member],
        steps: Sequence[range],
        draws: list[torch.Generator],
        device: torch.device,
    ) -> Iterator[Batch]:
        """Yield the batches of these steps of each training; `draws` are kept between laps."""
        epochs = [self._sizes(m) for m in members]
        strips = [
            strip(self.seed, self.augment, *each)
            for each in zip(members, epochs, steps, strict=True)
        ]
        sizes = table([own.sizes for own in strips])
        full = self.width or int(sizes.max())
        places = torch.from_numpy(padded([own.at for own in strips], sizes, full)).to(device)
        changes = [own.changes for own in strips if own.changes is not None]
        moves = torch.from_numpy(padded(changes, sizes, full)) if changes else None
        for step in range(sizes.shape[1]):
            counts = sizes[sizes[:, step] > 0, step]
            m, width = len(counts), self.width or int(counts.max())
            x, y = self.store.batch(places[:m, step, :width])
            if moves is not None:
                moved = moves[:m, step, :width].to(device)
                x = change(x.flatten(0, 1), moved.flatten(0, 1), self.augment).view_as(x)
            if self.hooks:
                self._renew(draws, members, [own[step] for own in steps[:m]])
            yield self._mixed(x, y, counts, draws, steps[0][step] // len(epochs[0]))

    def _renew(
        self,
        draws: list[torch.Generator],
        members: Sequence[Member],
        steps: Sequence[int],
    ) -> None:
        """Give each training that begins an epoch the generator of its hooks for it."""
        for k, (member, step) in enumerate(zip(members, steps, strict=False)):
            epoch, batch = divmod(step, self.batches(member))
            if batch == 0:
                key = f"hooks/{member.purpose}"
                draws[k : k + 1] = [torch_generator(self.seed, key, round=epoch)]

    def held_out(self, members: Sequence[Member], device: torch.device) -> Iterator[Batch]:
        """Yield the validation rows of all trainings, plainly; weights are 1 and 0."""
        chunk = self.width or self.batch_size
        width = -(-max(len(m.held) for m in members) // chunk) * chunk
        sizes = np.array([[len(m.held)] for m in members], np.int64)
        at = torch.from_numpy(padded([m.held.at for m in members], sizes, width)[:, 0]).to(device)
        real = torch.arange(width) < torch.from_numpy(sizes)
        for start in range(0, width, chunk):
            part = slice(start, start + chunk)
            x, y = self.store.batch(at[:, part])
            yield Batch(x, y, None, real[:, part].to(device, x.dtype))

    def _mixed(
        self, x: Tensor, y: Tensor, counts: Ints, draws: Sequence[torch.Generator], epoch: int
    ) -> Batch:
        weights = _row_weights(counts, x)
        if not self.hooks:
            return Batch(x, y, None, weights, epoch)
        plain = torch.nn.functional.one_hot(y, self.classes).to(x.dtype)
        versions = prod(hook.tries for hook in self.hooks)
        new = [(x.clone(), plain.clone()) for _ in range(versions)]
        for k, count in enumerate(counts.tolist()):
            mine = [(x[k, :count], plain[k, :count])]
            for hook in self.hooks:
                mine = [hook.mix(*one, draws[k]) for one in mine for _ in range(hook.tries)]
            for (images, targets), one in zip(new, mine, strict=True):
                images[k, :count], targets[k, :count] = one
        first, *others = [Batch(x, t.argmax(-1), t, weights, epoch) for x, t in new]
        return replace(first, others=tuple(others)) if others else first


def padded_width(rows: int, batch_size: int) -> int:
    """Return how wide the batches of a training are in a stack.

    It depends on the training's own number of rows alone, so that its arithmetic, down to the
    order of sums, does not depend on which others are beside it.
    """
    return min(batch_size, -(-rows // _LANES) * _LANES)


def _row_weights(counts: Ints, x: Tensor) -> Tensor:
    real = np.arange(x.shape[1]) < counts[:, None]
    return torch.from_numpy(real / counts[:, None]).to(x.dtype).to(x.device)
