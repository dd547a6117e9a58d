"""Cosine annealing after a linear warm-up.

Loshchilov and Hutter, SGDR, ICLR 2017; the cosine is as in
`torch.optim.lr_scheduler.CosineAnnealingLR` with one period over the epochs after the warm-up. In
the warm-up of w epochs the rate climbs in equal steps, epoch e having (e + 1) / (w + 1) of it.
"""

from __future__ import annotations

from math import cos, pi
from typing import ClassVar, Literal

from pydantic import Field

from learning.schedules.base import Schedule


class Cosine(Schedule):
    """Cosine from the full rate to `final` times it over all epochs, after a linear warm-up."""

    kind: Literal["cosine"] = "cosine"
    paper: ClassVar[str] = "Loshchilov and Hutter, SGDR, ICLR 2017"

    warmup_epochs: int = Field(0, ge=0, le=10_000, description="Epochs of linear warm-up.")
    final: float = Field(0.0, ge=0, le=1, description="Last learning rate, relative to the first.")

    def rate(self, epoch: int, epochs: int) -> float:
        """Return the factor of an epoch; see `Schedule.rate`."""
        warmup = self.warmup_epochs
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        done = (epoch - warmup) / (epochs - warmup)
        return self.final + (1 - self.final) * (1 + cos(pi * done)) / 2
