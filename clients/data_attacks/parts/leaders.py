"""What an attacker moves, so that its rows move: the pixels themselves, or a network over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING

import torch

from learning.schedules.cosine import Cosine

if TYPE_CHECKING:
    from torch import Tensor, nn

_COSINE = Cosine()
_SLOPE = 0.2  # of the leaky ReLUs in S3's public code


def cooled(number: int, rounds: int) -> float:
    """Return the rate of a round, from 0, that shrinks from 1 towards 0 along a cosine."""
    return _COSINE.rate(number, rounds)


def ball(x: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest values near rows in [0, 1], and in that range.

    Args:
        x: The rows, float (m, C, H, W).
        radius: Largest change of a pixel; 1 leaves the range alone.
    """
    return (x - radius).clamp(min=0), (x + radius).clamp(max=1)


class Leader(ABC):
    """Gives the rows, and moves them along a direction in which the damage grows."""

    @property
    @abstractmethod
    def rows(self) -> Tensor:
        """The rows as they are now, float (m, C, H, W), in [0, 1]."""

    @abstractmethod
    def ascend(self, direction: Tensor, rate: float) -> None:
        """Move, so that the rows go along a direction, (m, C, H, W).

        Args:
            direction: Gradient by the rows of what is to grow.
            rate: Share of the full step, in (0, 1].
        """


class Pixels(Leader):
    """The pixels, moved by Adam within [0, 1]: a row's gradient is as small as its share.

    Kingma and Ba, ICLR 2015, with its own constants.

    Args:
        x: The rows at the start, float (m, C, H, W).
        step: Length of a full step of one pixel.
        radius: Largest change of a pixel; None for no bound but the range.
    """

    def __init__(self, x: Tensor, step: float, radius: float | None = None) -> None:
        self._x, self._step = x.clone(), step
        self._low, self._high = ball(x, 1.0 if radius is None else radius)
        self._mean, self._square, self._count = torch.zeros_like(x), torch.zeros_like(x), 0

    @property
    def rows(self) -> Tensor:
        """The pixels."""
        return self._x

    def ascend(self, direction: Tensor, rate: float) -> None:
        """Take one step of Adam; see `Leader.ascend`."""
        self._count += 1
        # Adam's own epsilon would swallow gradients of the size of a row's share.
        direction = direction / direction.abs().max().clamp(min=torch.finfo(direction.dtype).tiny)
        self._mean = 0.9 * self._mean + 0.1 * direction
        self._square = 0.999 * self._square + 0.001 * direction**2
        mean = self._mean / (1 - 0.9**self._count)
        square = self._square / (1 - 0.999**self._count)
        moved = self._x + self._step * rate * mean / (square.sqrt() + 1e-8)
        self._x = torch.minimum(torch.maximum(moved, self._low), self._high)


class Autoencoder(Leader):
    """A network of three linear layers over a row and its label (S3 5.1), moved by plain steps.

    The label is appended as one number in [0, 1]. Its output is clipped to the range.

    Args:
        x: The rows at the start, float (m, C, H, W).
        y: Their labels, int64 (m,).
        classes: Number of classes.
        step: S3's alpha.
        generator: CPU generator of the initial weights.
    """

    def __init__(
        self, x: Tensor, y: Tensor, classes: int, step: float, generator: torch.Generator
    ) -> None:
        self._given, self._shape, self._step = _inputs(x, y, classes), x.shape, step
        self._classes = classes
        self._net = _network(prod(x.shape[1:]), generator).to(x.device)

    @property
    def rows(self) -> Tensor:
        """What the network makes of the rows."""
        with torch.no_grad():
            out: Tensor = self._net(self._given)
        return out.view(self._shape).clamp(0, 1)

    def pretrain(self, x: Tensor, y: Tensor, steps: int, generator: torch.Generator) -> float:
        """Train it to give back clean rows, by Adam on the mean squared error.

        Args:
            x: Clean rows, float (n, C, H, W).
            y: Their labels.
            steps: Steps of 256 rows.
            generator: Of the batches.

        Returns:
            The mean squared error of the last batch.
        """
        given, error = _inputs(x, y, self._classes), 0.0
        adam = torch.optim.Adam(self._net.parameters(), lr=1e-3)
        with torch.enable_grad():
            for _ in range(steps):
                at = torch.randint(len(y), (min(256, len(y)),), generator=generator)
                adam.zero_grad()
                loss = ((self._net(given[at]) - given[at, :-1]) ** 2).mean()
                loss.backward()
                adam.step()
                error = float(loss.detach())
        return error

    def ascend(self, direction: Tensor, rate: float) -> None:
        """Take one plain step along the direction, pulled back to the weights."""
        weights = list(self._net.parameters())
        with torch.enable_grad():
            out = self._net(self._given)
            inside = ((out >= 0) & (out <= 1)).to(out.dtype)
            grads = torch.autograd.grad(out, weights, direction.flatten(1) * inside)
        with torch.no_grad():
            for weight, grad in zip(weights, grads, strict=True):
                weight.add_(grad, alpha=self._step * rate)


def _inputs(x: Tensor, y: Tensor, classes: int) -> Tensor:
    label = y.to(x.dtype)[:, None] / max(classes - 1, 1)
    return torch.cat([x.flatten(1), label], 1)


def _network(width: int, generator: torch.Generator) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(generator.get_state())
        return torch.nn.Sequential(
            torch.nn.Linear(width + 1, width),
            torch.nn.LeakyReLU(_SLOPE),
            torch.nn.Linear(width, width),
            torch.nn.LeakyReLU(_SLOPE),
            torch.nn.Linear(width, width),
        )
