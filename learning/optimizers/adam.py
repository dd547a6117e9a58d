"""Adam: the arithmetic of `torch.optim.Adam`, for K models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from learning.optimizers.base import Optimizer, StackedOptimizer

if TYPE_CHECKING:
    from torch import Tensor


class Adam(Optimizer):
    """Adam as in `torch.optim.Adam` (weight decay as an L2 term)."""

    kind: Literal["adam"] = "adam"
    paper: ClassVar[str] = "Kingma and Ba, Adam, ICLR 2015"
    kept: ClassVar[int] = 2

    lr: float = Field(0.001, gt=0, le=100, description="Learning rate.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the mean of gradients.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the mean of squared gradients.")
    eps: float = Field(1e-8, gt=0, le=1, description="Added to the denominator.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Factor of the L2 term.")

    @property
    def rate(self) -> float:
        """`lr`."""
        return self.lr

    def stacked(self, weights: Sequence[Tensor]) -> StackedAdam:
        """Return a fresh optimiser for stacked weights, each (K, ...)."""
        return StackedAdam(self, weights)


class StackedAdam(StackedOptimizer):
    """`torch.optim.Adam`, with weight decay as an L2 term and each model's own step count."""

    def __init__(self, spec: Adam, weights: Sequence[Tensor]) -> None:
        import torch  # slow to import, and a scenario is read without

        self._spec = spec
        self._mean = [torch.zeros_like(w) for w in weights]
        self._square = [torch.zeros_like(w) for w in weights]
        # Bias corrections need float64: 1 - 0.999 has lost three digits in float32.
        self._steps = torch.zeros(len(weights[0]), dtype=torch.float64)

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
