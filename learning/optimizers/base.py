"""What an optimiser is, for K models at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from learning.method import Method

if TYPE_CHECKING:
    from torch import Tensor


class StackedOptimizer(ABC):
    """Moves stacked weights, each tensor (K, ...)."""

    @abstractmethod
    def step(self, weights: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Move the first m models in place; gradients are off.

        Args:
            weights: Each (m, ...), the first m models' parts of the stacked weights.
            grads: Of the same shapes.
            lr: Learning rate.
        """

    @abstractmethod
    def take(self, models: Tensor) -> None:
        """Go on with these models only, int64 (k,)."""


class Optimizer(Method):
    """How a step is made.

    Attributes:
        kept: How many numbers it keeps for each weight, for the estimate of memory.
    """

    kept: ClassVar[int] = 2

    @property
    @abstractmethod
    def rate(self) -> float:
        """The learning rate before any schedule."""

    @abstractmethod
    def stacked(self, weights: Sequence[Tensor]) -> StackedOptimizer:
        """Return a fresh optimiser for stacked weights, each (K, ...)."""
