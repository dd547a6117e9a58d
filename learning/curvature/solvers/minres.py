"""MINRES (Paige, Saunders 1975): the smallest residual over a Krylov space, H indefinite or not.

Lanczos makes H tridiagonal, plane rotations make that triangular. The space holds a direction of
negative curvature just where the tridiagonal matrix has an eigenvalue that is not positive.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scipy.linalg import eigvalsh_tridiagonal

from learning.curvature.solvers.solution import Operator, Solution, begun, judged

if TYPE_CHECKING:
    from torch import Tensor


def minres(
    product: Operator,
    damping: float,
    wanted: Tensor,
    tolerance: float,
    most: int,
    start: Tensor | None = None,
) -> Solution:
    """Solve (H + damping) s = v for a symmetric H, whatever the signs of its eigenvalues.

    Args:
        product: v -> H v.
        damping: Added to every eigenvalue, >= 0; it may leave some negative.
        wanted: v, (P,).
        tolerance: Relative residual at which it stops.
        most: Steps at most, a product each; a start and the residual take one more each.
        start: First s, (P,); None for zeros.

    Raises:
        ValueError: If the start is not of the length of v.
    """

    def system(vector: Tensor) -> Tensor:
        return product(vector) + damping * vector

    enough = tolerance * float(torch.linalg.vector_norm(wanted))
    out, rest, spent = begun(system, wanted, start)
    left = beside = float(torch.linalg.vector_norm(rest))
    diagonal, off = list[float](), list[float]()
    before, now = torch.zeros_like(rest), rest / left if left > 0 else rest
    far, near = torch.zeros_like(rest), torch.zeros_like(rest)
    cos, cos_before, sin, sin_before = 1.0, 1.0, 0.0, 0.0
    largest, singular = 0.0, False
    while len(diagonal) < most and abs(left) > enough and beside > 0:
        moved = system(now)
        own = float(now @ moved)
        moved -= own * now + beside * before
        after = float(torch.linalg.vector_norm(moved))
        turned = cos * own - cos_before * sin * beside
        second = sin * own + cos_before * cos * beside
        third = sin_before * beside
        first = math.hypot(turned, after)
        diagonal.append(own)
        off.append(after)
        largest = max(largest, abs(own) + after)
        if first <= 8 * torch.finfo(rest.dtype).eps * largest:
            singular = True  # and v is outside its range: no step makes up for the rest
            break
        far, near = near, (now - second * near - third * far) / first
        cos_before, sin_before, cos, sin = cos, sin, turned / first, after / first
        out += cos * left * near
        left *= -sin
        # the Krylov space is used up: what is left is rounding
        if after <= torch.finfo(rest.dtype).eps * largest:
            break
        before, now, beside = now, moved / after, after
    negative = singular or _indefinite(diagonal, off)
    return judged(system, wanted, out, len(diagonal), negative, spent + len(diagonal))


def _indefinite(diagonal: list[float], off: list[float]) -> bool:
    """Return whether a tridiagonal matrix has an eigenvalue <= 0."""
    if not diagonal:
        return False
    return float(eigvalsh_tridiagonal(diagonal, off[: len(diagonal) - 1]).min()) <= 0
