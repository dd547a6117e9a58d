"""The training loop: K models of one architecture, alike in everything but their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

import torch
from torch import Tensor

from learning.answers import decided
from learning.shares import count_of
from learning.training.batches.batches import Batch, BatchMaker
from learning.training.batches.plans import Member
from learning.training.constraint import StackedSteering
from learning.training.engine.last_epochs import LastEpochs
from learning.training.engine.stopping import Stopper
from learning.training.length import Length
from learning.training.spec import EarlyStopping, TrainingSpec
from learning.training.stacked.nets import Net, State

Figures = dict[str, float]


@dataclass
class EpochReport:
    """One model's training so far.

    Attributes:
        member: Its rows.
        stopper: Watches for early stopping, if any.
        curve: Figures of the finished spans (see `Length`).
        state: Its final weights, once it is done.
        averaged: The mean of its last epochs' weights, once it is done; empty where none is taken.
        diverged: Whether its loss or weights became infinite or undefined.
    """

    member: Member
    stopper: Stopper | None
    curve: list[Figures] = field(default_factory=list)
    state: State = field(default_factory=dict)
    averaged: State = field(default_factory=dict)
    diverged: bool = False

    def validated(self, stopping: EarlyStopping | None) -> tuple[int, int] | None:
        """Return how many held-out rows the weights kept give their label, and of how many."""
        best = self.stopper.best_epoch if restores(stopping, self) and self.stopper else None
        held = len(self.member.held)
        if not held or not self.curve:
            return None
        figures = self.curve[(best or len(self.curve)) - 1]
        return count_of(figures["validation_accuracy"], held), held


def restores(stopping: EarlyStopping | None, progress: EpochReport) -> bool:
    """Return whether a training ends with the weights of its best epoch, not of its last."""
    return bool(
        stopping and stopping.restore_best and progress.stopper and progress.stopper.best_epoch
    )


class Loop:
    """Trains one group.

    Args:
        net: The models, in descending order of their number of rows.
        maker: Makes the batches.
        spec: Training settings.
        length: Length of each training.
        device: Where it happens.
        rate: Factor of the learning rate.
        steering: Of the net's models, in their order, if they are steered.
        bfloat16: Run the models under bfloat16 autocast; weights stay as they are.
        averaged: Over how many of the last epochs a mean of the weights is taken beside; 0: none.
    """

    def __init__(
        self,
        net: Net,
        maker: BatchMaker,
        spec: TrainingSpec,
        length: Length,
        device: torch.device,
        *,
        rate: float = 1.0,
        steering: StackedSteering | None = None,
        bfloat16: bool = False,
        averaged: int = 0,
    ) -> None:
        self._net, self._maker, self._spec = net, maker, spec
        self._length, self._device, self._bfloat16 = length, device, bfloat16
        self._rate, self._steering = rate, steering
        self._last = LastEpochs(averaged)
        self._optimizer = spec.optimizer.stacked(net.weights(_models(net)))

    def run(
        self, members: Sequence[Member], on_epoch: Callable[[int, list[Figures]], None]
    ) -> list[EpochReport]:
        """Train to the end; return what became of each member, in order.

        Args:
            members: One for each model of the net, in the same order.
            on_epoch: Told the number of finished spans and all active models' figures.
        """
        stopping = self._spec.early_stopping
        everyone = [EpochReport(m, Stopper(stopping) if stopping else None) for m in members]
        active, best = everyone, self._net.snapshot()
        for span in range(self._length.spans):
            before = self._net.snapshot()
            figures = self._span([p.member for p in active], span)
            self._note(active, figures, before, best)
            self._last.keep(self._net.tensors)
            on_epoch(span + 1, figures)
            active, best = self._drop_finished(active, best, last=span + 1 == self._length.spans)
            if not active:
                break
        return everyone

    def _span(self, members: Sequence[Member], span: int) -> list[Figures]:
        sums, lr = self._zeros(len(members)), 0.0
        epoch = -1
        for batch in self._maker.training(members, self._length, span, self._device):
            if batch.epoch != epoch:
                if epoch >= 0:
                    self._end_epoch()
                epoch, lr = batch.epoch, self._lr(members[0], batch.epoch)
            self._step(batch, lr, sums)
        self._end_epoch()
        finite = _finite(self._net).tolist()
        rows = [self._rows(member, span) for member in members]
        return [
            {
                "train_loss": loss / n if sound else float("nan"),
                "train_accuracy": hits / n,
                "learning_rate": lr,
                **held,
            }
            for n, sound, loss, hits, held in zip(
                rows, finite, *sums.tolist(), self._validate(members), strict=True
            )
        ]

    def _lr(self, member: Member, epoch: int) -> float:
        """Return the learning rate in a member's epoch; a group's members have it in common."""
        length, batches = self._length, self._maker.batches(member)
        epochs = length.epochs_in(length.spans, batches)
        factor = self._spec.schedule.rate(epoch, epochs)
        return self._rate * (self._spec.optimizer.rate * factor)

    def _rows(self, member: Member, span: int) -> int:
        """Return how many rows of a member a span has seen, repetitions counted."""
        steps = self._length.span(span, self._maker.batches(member))
        return self._maker.rows_seen(member, len(steps))

    def _end_epoch(self) -> None:
        if self._steering is not None:
            self._steering.after_epoch(self._net.weights(_models(self._net)))

    def _zeros(self, models: int) -> Tensor:
        """Return sums of losses and of hits; in float64 where the device has it."""
        exact = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(2, models, device=self._device, dtype=exact)

    def _step(self, batch: Batch, lr: float, sums: Tensor) -> None:
        if batch.others:
            batch = self._worst(batch)
        m = len(batch.x)
        leaves = self._net.leaves(m)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = self._net.forward(leaves, batch.x)
        costs = _costs(logits.to(batch.x.dtype), batch, self._spec.label_smoothing)
        losses = (costs * batch.weights).sum(1)
        weights = self._net.weights(m)
        flat = torch.autograd.grad(losses.sum(), leaves)
        grads = [g.view_as(w) for g, w in zip(flat, weights, strict=True)]
        if self._steering is not None:
            grads = list(self._steering.bent(weights, grads))
        with torch.no_grad():
            self._optimizer.step(weights, grads, lr)
        if self._steering is not None:
            self._steering.after_step(weights)
        real = batch.weights > 0
        sums[0, :m] += (costs.detach() * real).sum(1)
        sums[1, :m] += ((logits.detach().argmax(-1) == batch.labels) & real).sum(1)

    def _worst(self, batch: Batch) -> Batch:
        """Return of each row the version with the largest loss, in evaluation mode.

        One whose logits are not finite has no loss, and is picked where no version has one only.
        """
        versions = (batch, *batch.others)
        pick = torch.stack([self._ranked(one) for one in versions]).argmax(0)  # first of equals
        return replace(
            batch,
            x=_picked([one.x for one in versions], pick),
            labels=_picked([one.labels for one in versions], pick),
            targets=_picked([one.targets for one in versions if one.targets is not None], pick),
            others=(),
        )

    def _ranked(self, batch: Batch) -> Tensor:
        """Return what orders rows as their losses do, (m, b)."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = self._net.evaluate(batch.x)
        wide = torch.float32 if self._device.type == "mps" else torch.float64
        return log_costs(logits.to(wide), batch, self._spec.label_smoothing)

    def _validate(self, members: Sequence[Member]) -> list[Figures]:
        counts = [len(m.held) for m in members]
        if not any(counts):
            return [{} for _ in members]
        sums = self._zeros(len(members))
        for batch in self._maker.held_out(members, self._device):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                logits = self._net.evaluate(batch.x)
            costs = _costs(logits.to(batch.x.dtype), batch, 0.0)
            sums[0] += (costs * batch.weights).sum(1)
            sums[1] += ((decided(logits) == batch.labels) * batch.weights).sum(1)
        return [
            {"validation_loss": loss / n, "validation_accuracy": hits / n}
            for n, loss, hits in zip(counts, *sums.tolist(), strict=True)
        ]

    def _note(
        self, active: Sequence[EpochReport], figures: Sequence[Figures], before: State, best: State
    ) -> None:
        """Enter an epoch's figures; put diverged models back to where they were before it."""
        for k, (progress, own) in enumerate(zip(active, figures, strict=True)):
            if not all(map(isfinite, own.values())):
                progress.diverged = True
                _copy(self._net.tensors, before, k)
                continue
            progress.curve.append(own)
            if progress.stopper and progress.stopper.improved(len(progress.curve), own):
                _copy(best, self._net.tensors, k)

    def _drop_finished(
        self, active: list[EpochReport], best: State, *, last: bool
    ) -> tuple[list[EpochReport], State]:
        stay = [k for k, p in enumerate(active) if not (last or _done(p))]
        # Plain memory order for all at once: model by model it takes a multiple of the time.
        now, then = (
            _plain(tensors) if not stay else tensors for tensors in (self._net.tensors, best)
        )
        for k in set(range(len(active))).difference(stay):
            source = then if restores(self._spec.early_stopping, active[k]) else now
            active[k].state = {name: v[k].clone() for name, v in source.items()}
            active[k].averaged = self._last.mean(k, but_last=active[k].diverged)
        if stay and len(stay) < len(active):
            models = torch.tensor(stay, device=self._device)
            self._net.take(models)
            self._optimizer.take(models)
            self._last.take(models)
            if self._steering is not None:
                self._steering.take(models)
            best = {name: v.index_select(0, models) for name, v in best.items()}
        return [active[k] for k in stay], best


def _plain(tensors: State) -> State:
    return {name: value.contiguous() for name, value in tensors.items()}


def _done(progress: EpochReport) -> bool:
    stopper = progress.stopper
    return progress.diverged or bool(stopper and stopper.exhausted(len(progress.curve)))


def _models(net: Net) -> int:
    return len(next(iter(net.tensors.values())))


def _copy(to: State, source: State, model: int) -> None:
    for name, value in to.items():
        value[model] = source[name][model]


def _finite(net: Net) -> Tensor:
    """Return whether all of each model's weights are finite, bool (K,)."""
    weights = net.weights(_models(net))
    return torch.stack([w.flatten(1).isfinite().all(1) for w in weights]).all(0)


def _picked(versions: Sequence[Tensor], pick: Tensor) -> Tensor:
    """Return of each row the picked version: tensors (m, b, ...) by pick, int64 (m, b)."""
    out = versions[0].clone()
    for number, version in enumerate(versions[1:], 1):
        out[pick == number] = version[pick == number]
    return out


def _costs(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Return each row's cross-entropy with its target, (m, b); targets sum to 1."""
    return logits.logsumexp(-1) - _hit(logits, batch, smoothing)


def _hit(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Return the mean logit of each row under its target, (m, b)."""
    if batch.targets is None:
        hit = logits.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)
    else:
        hit = (logits * batch.targets).sum(-1)
    if smoothing:
        hit = (1 - smoothing) * hit + smoothing * logits.mean(-1)
    return hit


def log_costs(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Return the logarithm of each row's cross-entropy, (m, b); -inf where logits are not finite.

    A model that is sure of its answers has losses that are rounded to 0; their logarithms still
    tell them apart. With a the likeliest class, the loss is ``logit_a - hit + log(1 + S)``, where
    S is the sum of exp(logit_k - logit_a) over the others.

    Args:
        logits: (m, b, classes), float64 where the device has it.
        batch: The rows and their targets.
        smoothing: Label smoothing.
    """
    top = logits.argmax(-1, keepdim=True)
    apart = logits - logits.gather(-1, top)
    small = apart.scatter(-1, top, -torch.inf).logsumexp(-1)
    # Taken after the likeliest logit: a difference of large numbers would not be 0 where it is.
    costs = small.exp().log1p() - _hit(apart, batch, smoothing)
    logs = torch.where(costs > torch.finfo(costs.dtype).tiny, costs.log(), small)
    return torch.where(logits.isfinite().all(-1), logs, -torch.inf)
