"""The largest eigenvalue of a symmetric matrix that is known by its products alone.

Lanczos iteration with full reorthogonalisation (Golub, Van Loan, Matrix Computations, chapter 10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Eigenpair:
    """What an iteration found.

    Attributes:
        value: The largest eigenvalue; 0 of a matrix that is 0.
        vector: Its eigenvector, of norm 1, (n,); 0 of a matrix that is 0.
        residual: ``|A u - value u| / value``; 0 of a matrix that is 0.
        steps: Products that were taken.
    """

    value: float
    vector: Tensor
    residual: float
    steps: int


def top_eigenpair(
    product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, most: int
) -> Eigenpair:
    """Return the largest eigenvalue and its eigenvector of a positive semidefinite matrix A.

    Args:
        product: Returns A q of q (n,).
        start: Any vector (n,) that is not orthogonal to the eigenvector.
        tolerance: Relative residual at which it stops.
        most: Products at most.
    """
    length = torch.linalg.vector_norm(start)
    if not length > 0:
        return Eigenpair(0.0, torch.zeros_like(start), 0.0, 0)
    basis = [start / length]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    while True:
        ahead = product(basis[-1])
        diagonal.append(basis[-1] @ ahead)
        every = torch.stack(basis)
        for _ in range(2):  # once leaves rounding errors of the size of what is taken away
            ahead = ahead - every.T @ (every @ ahead)
        beside.append(torch.linalg.vector_norm(ahead))
        value, mix = _largest(diagonal, beside)
        error = float(beside[-1]) * abs(float(mix[-1]))
        if value <= 0:
            return Eigenpair(0.0, torch.zeros_like(start), 0.0, len(basis))
        if error <= tolerance * value or len(basis) >= min(most, len(start)):
            vector = every.T @ mix.to(every)
            vector = vector / torch.linalg.vector_norm(vector)
            return Eigenpair(value, vector, error / value, len(basis))
        basis.append(ahead / beside[-1])


def _largest(diagonal: list[Tensor], beside: list[Tensor]) -> tuple[float, Tensor]:
    """Return the largest eigenvalue of the tridiagonal matrix so far, and its vector."""
    main, off = torch.stack(diagonal).double().cpu(), torch.stack(beside).double().cpu()[:-1]
    matrix = torch.diag(main) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return float(values[-1]), vectors[:, -1]
