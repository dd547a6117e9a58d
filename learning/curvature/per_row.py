"""The gradients of the losses of n rows, as a matrix G (n, P) that need not be in memory.

Three forms, for the same two products: of the last linear layer G is a sum of outer products of
features and errors and is never formed; of all layers it is computed by `torch.func.vmap` and kept
where it fits into memory, and otherwise streamed: G v is one forward-mode pass over the rows, and
G^T u one backward pass, so that not a single row's gradient is ever made.

A model that is sure of a label leaves a gradient of size 1 - p, and p, a softmax in float32, is
exactly 1 from a margin of 17 nats on: the gradient would be 0, and the method would stand still.
So the loss is written by the odds against the label,

    r = log sum_{k != y} exp(logit_k) - logit_y,   loss = log(1 + e^r),   d loss = (1 - p) dr,

where dr is of the size of the logits' own derivatives and 1 - p = 1 / (1 + e^-r), in float64, is
never a difference of like numbers. Where only the rows' relation to each other matters,
`in_units` divides all gradients by the largest 1 - p, so that none is lost however large the
logits are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from learning.pool import Ints

if TYPE_CHECKING:
    from torch import Tensor


class RowGradients(ABC):
    """The matrix G of n rows, float32 or float64, on one device."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Number of rows, n."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of weights, P."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it is, and its products."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type of its products."""

    @abstractmethod
    def times(self, direction: Tensor) -> Tensor:
        """Return G v, (n,), of v (P,)."""

    @abstractmethod
    def transposed(self, weights: Tensor) -> Tensor:
        """Return G^T u, (P,), of u (n,)."""

    @abstractmethod
    def take(self, rows: Ints) -> RowGradients:
        """Return the gradients of the rows at these positions, int64 (k,)."""


class Measured(RowGradients):
    """Gradients whose size is known row by row, before they are formed.

    Attributes:
        unit: Logarithm of what all gradients are divided by; 0 for gradients as they are.
    """

    unit: float

    @abstractmethod
    def take(self, rows: Ints) -> Self:
        """Return the gradients of the rows at these positions, int64 (k,)."""

    @abstractmethod
    def odds(self) -> Tensor:
        """Return r of each row, float64 (n,)."""

    @abstractmethod
    def divided(self, unit: float) -> Self:
        """Return them divided by ``exp(unit)``."""

    def in_units(self) -> Self:
        """Return them divided by the largest 1 - p of the rows; as they are where there is none."""
        largest = (
            torch.nn.functional.logsigmoid(self.odds()).max() if self.rows else torch.zeros(())
        )
        return self.divided(float(largest)) if bool(largest.isfinite()) else self


@dataclass(frozen=True, eq=False)
class Stored(RowGradients):
    """Gradients in memory.

    Attributes:
        matrix: (n, P).
    """

    matrix: Tensor

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.matrix)

    @property
    def width(self) -> int:
        """Number of weights."""
        return self.matrix.shape[1]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the model."""
        return self.matrix.dtype

    def times(self, direction: Tensor) -> Tensor:
        """Return G v."""
        return self.matrix @ direction

    def transposed(self, weights: Tensor) -> Tensor:
        """Return G^T u."""
        return self.matrix.T @ weights

    def take(self, rows: Ints) -> Stored:
        """Return the gradients of some rows."""
        return Stored(self.matrix[torch.from_numpy(rows).to(self.device)])
