"""Noise within a small ball around rows, against a model that is trained on them meanwhile.

Huang et al., ICLR 2021 (error-minimising noise): the noise starts at 0; a fresh model takes a few
training steps on the noisy rows; then, at fixed weights, the noise of all rows takes its own steps;
and so on until the model gets nearly all noisy rows right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from clients.data_attacks.parts.follower import RowOrder, Stepper
from clients.data_attacks.parts.leaders import ball
from learning.curvature.row_gradient import loss_gradient
from learning.seeds import derived_seed, torch_generator
from learning.training.device import layer_draws, repeatable
from learning.training.stacked.modules import fresh_module

if TYPE_CHECKING:
    from torch import Tensor, nn

    from learning.training.recipe import Recipe

_CHUNK = 1024  # inputs asked at once


@dataclass(frozen=True, eq=False)
class NoiseBall:
    """All rows that are near given ones, pixel by pixel, and within [0, 1].

    Attributes:
        low: Smallest values, float (m, C, H, W).
        high: Largest values.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, x: Tensor, radius: float) -> NoiseBall:
        """Return the ball around rows in [0, 1]; `radius` is the largest change of a pixel."""
        return cls(*ball(x, radius))

    def moved(self, module: nn.Module, rows: Tensor, y: Tensor, step: float, steps: int) -> Tensor:
        """Return rows after signed gradient steps of their own loss, within the ball.

        Args:
            module: In evaluation mode; it stays as it is.
            rows: Where they are now, float (m, C, H, W), of the model's dtype.
            y: Their labels, int64 (m,).
            step: Length of a step of a pixel: above 0 the loss grows, below 0 it shrinks.
            steps: How many.
        """
        for _ in range(steps):
            rows = rows + step * loss_gradient(module, rows, y).sign()
            rows = torch.minimum(torch.maximum(rows, self.low), self.high)
        return rows


class FreshLearner:
    """A model with fresh weights that is trained on moving rows, some batches at a time.

    The defender's optimiser and batch size, in training mode (BatchNorm, dropout); schedules are
    left out. Between its steps it is in evaluation mode.

    Args:
        recipe: The defender's, with a seed of the attacker's.
        rows: How many rows there are, >= 1.
        device: Where the rows are.
    """

    def __init__(self, recipe: Recipe, rows: int, device: torch.device) -> None:
        seed, spec = derived_seed(recipe.seed, "fresh learner"), recipe.training
        self.module = fresh_module(replace(recipe, seed=seed), device, torch.float32).eval()
        self._weights = [w for w in self.module.parameters() if w.requires_grad]
        self._stepper, self._batch = Stepper(self._weights, spec), min(spec.batch_size, rows)
        self._order = RowOrder(rows, torch_generator(seed, "batches"))
        self._seed, self._calls = seed, 0

    def steps(self, count: int, x: Tensor, y: Tensor) -> None:
        """Train on batches of the rows as they are now.

        Args:
            count: Batches.
            x: Rows, float32 (m, C, H, W).
            y: Their labels, int64 (m,).
        """
        self._calls += 1
        draws = torch_generator(self._seed, f"layers/{self._calls}")
        with repeatable(), layer_draws(draws, x.device):
            self.module.train()
            for _ in range(count):
                rows = self._order.take(self._batch)
                self._step(x[rows], y[rows])
            self.module.eval()

    def _step(self, x: Tensor, y: Tensor) -> None:
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(self.module(x), y)
            grads = torch.autograd.grad(loss, self._weights)
        self._stepper.step(grads)

    def error(self, x: Tensor, y: Tensor) -> float:
        """Return the share of rows that it gets wrong, in [0, 1]."""
        with torch.no_grad(), repeatable():
            found = [self.module(some).argmax(1) for some in torch.split(x, _CHUNK)]
        return float((torch.cat(found) != y).double().mean())
