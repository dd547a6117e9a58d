"""What a solver of (H + damping) s = v hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Operator = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found.

    Attributes:
        vector: s, (P,).
        residual: ``|(H + damping) s - v| / |v|``, by a product of its own; 0 for v = 0.
        steps: Steps that were taken.
        negative: Whether a direction p with ``p^T (H + damping) p <= 0`` was met, so that H +
            damping is not positive definite. Conjugate gradients end there.
        products: Products H p in all, those of a warm start and of the residual included.
    """

    vector: Tensor
    residual: float
    steps: int
    negative: bool
    products: int


def begun(system: Operator, wanted: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """Return a solver's first s, what it leaves of v, and the products that took.

    Raises:
        ValueError: If the start is not of the length of v.
    """
    if start is None:
        return torch.zeros_like(wanted), wanted.clone(), 0
    if start.shape != wanted.shape:
        raise ValueError(
            f"start of a solver: expected a vector of {len(wanted)}, got {tuple(start.shape)}"
        )
    return start.clone(), wanted - system(start), 1


def judged(
    system: Operator, wanted: Tensor, out: Tensor, steps: int, negative: bool, products: int
) -> Solution:
    """Return a solution with its residual, which takes one product more."""
    length = float(torch.linalg.vector_norm(wanted))
    if not length > 0:
        return Solution(out, 0.0, steps, negative, products)
    left = system(out) - wanted  # a recurrence's own residual drifts away
    residual = float(torch.linalg.vector_norm(left)) / length
    return Solution(out, residual, steps, negative, products + 1)
