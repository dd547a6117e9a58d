"""Learning rates by epoch."""

from __future__ import annotations

from math import cos, pi

from learning.training.spec import ConstantRate, Cosine, Milestones


def rate_factor(schedule: ConstantRate | Milestones | Cosine, epoch: int, epochs: int) -> float:
    """Return what the full learning rate is multiplied by.

    Milestones are as in `torch.optim.lr_scheduler.MultiStepLR`, the cosine as in
    `CosineAnnealingLR` with one period over the epochs after the warm-up; in the warm-up of w
    epochs the rate climbs in equal steps, epoch e having (e + 1) / (w + 1) of it.

    Args:
        schedule: The scenario's schedule.
        epoch: Epoch, from 0.
        epochs: Length of the training.
    """
    if isinstance(schedule, Milestones):
        return float(schedule.factor ** sum(epoch >= m for m in schedule.milestones))
    if isinstance(schedule, Cosine):
        return _cosine(schedule, epoch, epochs)
    return 1.0


def _cosine(schedule: Cosine, epoch: int, epochs: int) -> float:
    warmup = schedule.warmup_epochs
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    done = (epoch - warmup) / (epochs - warmup)
    return schedule.final + (1 - schedule.final) * (1 + cos(pi * done)) / 2
