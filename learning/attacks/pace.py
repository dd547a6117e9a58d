"""How long the steps of an ascent are: always the same, or cut where they lead nowhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import torch

from learning.attacks.ascent import Ball, Inputs, direction

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Literal["adaptive", "constant"]

# Croce and Hein 2020, section 3 and Algorithm 1: momentum, the share of steps that must have
# raised the loss, and the checkpoints' first share, shrinkage and least distance.
_MOMENTUM = 0.75
_RISING = 0.75
_FIRST, _SHRINK, _LEAST = 22, 3, 6  # in per cent of the steps


class Pace(ABC):
    """Moves inputs up the loss, a step at a time."""

    @abstractmethod
    def after(self, inputs: Inputs, at: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        """Return the next iterate, (n, C, H, W).

        Args:
            inputs: The inputs under attack.
            at: The iterate, (n, C, H, W).
            loss: Its loss, (n,).
            gradient: The loss's gradient there, (n, C, H, W).
        """

    @abstractmethod
    def take(self, index: Tensor) -> None:
        """Go on with some of the inputs: a mask, bool (n,)."""


class ConstantPace(Pace):
    """Steps of one length (Madry et al. 2018)."""

    def __init__(self, ball: Ball, size: float) -> None:
        """Take the ball and the length of a step in its norm."""
        self._ball, self._size = ball, size

    def after(self, inputs: Inputs, at: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        """See `Pace.after`."""
        return self._ball.around(inputs.x, at + self._size * direction(gradient, self._ball.norm))

    def take(self, index: Tensor) -> None:
        """See `Pace.take`: there is nothing to remember of an input."""


class Adaptive(Pace):
    """Steps with momentum that are halved where too few of them raise the loss (APGD).

    Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks, Algorithm 1. At a checkpoint the step of an input is halved, and it
    goes back to its best iterate, where fewer than 3 of 4 steps since the last checkpoint raised
    the loss, or where neither step nor best loss changed since then. Ours: going back forgets the
    momentum.
    """

    def __init__(self, ball: Ball, size: float, steps: int, start: Tensor) -> None:
        """Begin.

        Args:
            ball: Where to stay.
            size: Length of the first step in the ball's norm; the paper has twice the radius.
            steps: How many there will be.
            start: The first iterate, (n, C, H, W).
        """
        self._ball, self._checkpoints, self._done = ball, checkpoints(steps), 0
        self._last_check = 0
        self._size = torch.full((len(start),), size, dtype=start.dtype, device=start.device)
        low = torch.full_like(self._size, -torch.inf)
        self._rises = torch.zeros_like(self._size)
        self._loss, self._best_loss = low, low.clone()
        self._checked_loss, self._checked_size = low.clone(), self._size.clone()
        self._before, self._best, self._best_gradient = start, start, torch.zeros_like(start)

    def take(self, index: Tensor) -> None:
        """See `Pace.take`."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value[index])

    def after(self, inputs: Inputs, at: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        """See `Pace.after`."""
        self._note(at, loss, gradient)
        if self._done in self._checkpoints:
            at, gradient = self._checked(at, gradient)
        step = _each(self._size, at) * direction(gradient, self._ball.norm)
        moved = self._ball.around(inputs.x, at + step)
        if self._done:
            ahead = at + _MOMENTUM * (moved - at) + (1 - _MOMENTUM) * (at - self._before)
            moved = self._ball.around(inputs.x, ahead)
        self._before, self._done = at, self._done + 1
        return moved

    def _note(self, at: Tensor, loss: Tensor, gradient: Tensor) -> None:
        self._rises += (loss > self._loss) & (self._done > 0)
        better = loss > self._best_loss
        self._best = torch.where(_each(better, at), at, self._best)
        self._best_gradient = torch.where(_each(better, at), gradient, self._best_gradient)
        self._best_loss = torch.where(better, loss, self._best_loss)
        self._loss = loss

    def _checked(self, at: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Halve the steps that lead nowhere; return from where and along what to go on."""
        few = self._rises < _RISING * (self._done - self._last_check)
        stuck = (self._size == self._checked_size) & (self._best_loss <= self._checked_loss)
        back = few | stuck
        self._checked_size, self._checked_loss = self._size, self._best_loss
        self._size = torch.where(back, self._size / 2, self._size)
        self._rises, self._last_check = torch.zeros_like(self._rises), self._done
        self._loss = torch.where(back, self._best_loss, self._loss)
        rows = _each(back, at)
        self._before = torch.where(rows, self._best, self._before)
        return torch.where(rows, self._best, at), torch.where(rows, self._best_gradient, gradient)


def checkpoints(steps: int) -> frozenset[int]:
    """Return after how many steps the length of a step is looked at (Croce and Hein, section 3.2).

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06); shares are rounded up.
    """
    shares, gap, share = [], _FIRST, _FIRST
    while share <= 100:
        shares.append(share)
        gap = max(gap - _SHRINK, _LEAST)
        share += gap
    return frozenset(-(-share * steps // 100) for share in shares)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Return values (n,) so that they fit inputs (n, C, H, W)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
