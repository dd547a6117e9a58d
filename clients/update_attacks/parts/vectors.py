"""What update attacks share that measure or scale an update: in float64, and never past its range.

Float32 sums of squares overflow from 1e19 on and lose all digits of a norm below 1e-23; a product
that leaves the range of the update's dtype would be quarantined instead of attacking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def length(vector: Tensor) -> float:
    """Return the L2 norm of a finite vector (d,), d >= 1, without overflow of its squares."""
    largest = float(vector.abs().max())
    if largest == 0:
        return 0.0
    return largest * float(torch.linalg.vector_norm(vector.double() / largest))


def fitting(vector: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a float64 vector in `dtype`; what is beyond its range becomes its largest number."""
    largest = torch.finfo(dtype).max
    return vector.clamp(-largest, largest).to(dtype)


def times(vector: Tensor, factor: float, bound: float | None = None) -> Tensor:
    """Return a multiple of a vector (d,), in its dtype and always finite.

    Args:
        vector: Finite, (d,).
        factor: Finite.
        bound: Largest L2 norm of the result; the factor is lowered to keep it.
    """
    if bound is not None and (size := length(vector)) * abs(factor) > bound:
        factor = bound / size if factor > 0 else -bound / size
    return fitting(vector.double() * factor, vector.dtype)
