"""Conjugate gradients (Hestenes, Stiefel 1952), from any start and with a preconditioner.

They need a positive definite matrix: at a point that is no minimum the Hessian has negative
eigenvalues, the iteration ends where it meets one, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from learning.curvature.solvers.solution import Operator, Solution, begun, judged

if TYPE_CHECKING:
    from torch import Tensor


def conjugate_gradients(
    product: Operator,
    damping: float,
    wanted: Tensor,
    tolerance: float,
    most: int,
    start: Tensor | None = None,
    preconditioner: Operator | None = None,
) -> Solution:
    """Solve (H + damping) s = v.

    Args:
        product: v -> H v.
        damping: Added to every eigenvalue, >= 0.
        wanted: v, (P,).
        tolerance: Relative residual at which it stops.
        most: Steps at most, a product each; a start and the residual take one more each.
        start: First s, (P,); None for zeros.
        preconditioner: r -> M r with M symmetric, positive definite and near the inverse of
            H + damping (`kronecker`).

    Raises:
        ValueError: If the start is not of the length of v.
    """

    def system(vector: Tensor) -> Tensor:
        return product(vector) + damping * vector

    length = float(torch.linalg.vector_norm(wanted))
    out, rest, spent = begun(system, wanted, start)
    near = rest if preconditioner is None else preconditioner(rest)
    ahead, size, steps, negative = near.clone(), float(rest @ near), 0, False
    while steps < most and float(rest @ rest) ** 0.5 > tolerance * length:
        moved = system(ahead)
        steps, curvature = steps + 1, float(ahead @ moved)
        if curvature <= 0:
            negative = True
            break
        out += (size / curvature) * ahead
        rest -= (size / curvature) * moved
        near = rest if preconditioner is None else preconditioner(rest)
        before, size = size, float(rest @ near)
        ahead = near + (size / before) * ahead
    return judged(system, wanted, out, steps, negative, spent + steps)
