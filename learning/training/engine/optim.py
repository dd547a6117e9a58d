"""Optimisers for stacked weights: the arithmetic of `torch.optim`, for K models at once.

`torch.optim` has one step counter for a tensor; models of a stack may be at different steps (one
has a batch more in an epoch than another), and a model without a batch must not move at all, not
even by momentum or weight decay. So a step here moves the first m models of the stack only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from learning.training.spec import SGD, Adam


class StackedOptimizer(ABC):
    """Moves stacked weights, each tensor (K, ...)."""

    @abstractmethod
    def step(self, weights: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Move the first m models in place.

        Args:
            weights: Each (m, ...), the first m models' parts of the stacked weights.
            grads: Of the same shapes.
            lr: Learning rate.
        """

    @abstractmethod
    def take(self, models: Tensor) -> None:
        """Go on with these models only, int64 (k,)."""


class StackedSGD(StackedOptimizer):
    """`torch.optim.SGD`, with momentum, Nesterov momentum and weight decay."""

    def __init__(self, spec: SGD, weights: Sequence[Tensor]) -> None:
        self._spec = spec
        self._velocity = [torch.zeros_like(w) for w in weights] if spec.momentum else []

    @torch.no_grad()
    def step(self, weights: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Move the first m models."""
        spec = self._spec
        moves = list(grads)
        if spec.weight_decay:
            moves = list(torch._foreach_add(moves, list(weights), alpha=spec.weight_decay))
        if spec.momentum:
            velocity = [v[: len(g)] for v, g in zip(self._velocity, grads, strict=True)]
            torch._foreach_mul_(velocity, spec.momentum)
            torch._foreach_add_(velocity, moves)
            if spec.nesterov:
                moves = list(torch._foreach_add(moves, velocity, alpha=spec.momentum))
            else:
                moves = velocity
        torch._foreach_add_(list(weights), moves, alpha=-lr)

    def take(self, models: Tensor) -> None:
        """Go on with these models only."""
        self._velocity = [v.index_select(0, models) for v in self._velocity]


class StackedAdam(StackedOptimizer):
    """`torch.optim.Adam`, with weight decay as an L2 term and each model's own step count."""

    def __init__(self, spec: Adam, weights: Sequence[Tensor]) -> None:
        self._spec = spec
        self._mean = [torch.zeros_like(w) for w in weights]
        self._square = [torch.zeros_like(w) for w in weights]
        # Bias corrections need float64: 1 - 0.999 has lost three digits in float32.
        self._steps = torch.zeros(len(weights[0]), dtype=torch.float64)

    @torch.no_grad()
    def step(self, weights: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Move the first m models."""
        spec, m = self._spec, len(weights[0])
        self._steps[:m] += 1
        first = lr / (1 - spec.beta1 ** self._steps[:m])
        second = (1 - spec.beta2 ** self._steps[:m]).sqrt()
        first, second = (v.to(weights[0].device, weights[0].dtype) for v in (first, second))
        for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
            if spec.weight_decay:
                g = g.add(w, alpha=spec.weight_decay)
            mean, square = self._mean[i][:m], self._square[i][:m]
            mean.lerp_(g, 1 - spec.beta1)
            square.mul_(spec.beta2).addcmul_(g, g, value=1 - spec.beta2)
            each = (m,) + (1,) * (w.ndim - 1)
            w.sub_(first.view(each) * mean / (square.sqrt() / second.view(each) + spec.eps))

    def take(self, models: Tensor) -> None:
        """Go on with these models only."""
        self._mean = [v.index_select(0, models) for v in self._mean]
        self._square = [v.index_select(0, models) for v in self._square]
        self._steps = self._steps.index_select(0, models.cpu())


def stacked_optimizer(spec: SGD | Adam, weights: Sequence[Tensor]) -> StackedOptimizer:
    """Return a fresh optimiser for stacked weights, each (K, ...)."""
    if isinstance(spec, SGD):
        return StackedSGD(spec, weights)
    return StackedAdam(spec, weights)
