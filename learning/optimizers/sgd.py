"""Stochastic gradient descent: the arithmetic of `torch.optim.SGD`, for K models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from learning.optimizers.base import Optimizer, StackedOptimizer

if TYPE_CHECKING:
    from torch import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent as in `torch.optim.SGD`."""

    kind: Literal["sgd"] = "sgd"
    paper: ClassVar[str] = "Robbins and Monro 1951; momentum as in Sutskever et al., ICML 2013"
    kept: ClassVar[int] = 1

    lr: float = Field(0.05, gt=0, le=100, description="Learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; 0: none.")
    nesterov: bool = Field(False, description="Nesterov's variant of momentum.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Factor of the L2 term.")

    @property
    def rate(self) -> float:
        """`lr`."""
        return self.lr

    def stacked(self, weights: Sequence[Tensor]) -> StackedSGD:
        """Return a fresh optimiser for stacked weights, each (K, ...)."""
        return StackedSGD(self, weights)


class StackedSGD(StackedOptimizer):
    """`torch.optim.SGD`, with momentum, Nesterov momentum and weight decay."""

    def __init__(self, spec: SGD, weights: Sequence[Tensor]) -> None:
        import torch  # slow to import, and a scenario is read without

        self._spec = spec
        self._velocity = [torch.zeros_like(w) for w in weights] if spec.momentum else []

    def step(self, weights: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Move the first m models."""
        import torch

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
