"""Solutions of (H + damping) s = v, where H is the curvature of a model's mean loss.

Of the last linear layer H is known in closed form, ``mean of (diag p - p p^T) kron x x^T``, and is
factorised where it is small. Otherwise only products H v are computed, by rows in batches, and the
system is solved by conjugate gradients (Hestenes, Stiefel 1952). They need a positive definite
matrix: at a point that is no minimum the Hessian has negative eigenvalues, the iteration ends where
it meets one, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from learning.training.device import exact_convolutions
from strategies.filtering.parts.gradients import (
    GIB,
    LastLayer,
    Streamed,
    cross_entropy,
    flat,
    unflat,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

Product = Callable[["Tensor"], "Tensor"]
Kind = Literal["hessian", "gauss_newton"]

# Wider systems take more time to factorise than to iterate.
_FACTORISED = 4096


@dataclass(frozen=True, eq=False)
class Solution:
    """What conjugate gradients found.

    Attributes:
        vector: s, (P,).
        residual: ``|(H + damping) s - v| / |v|``; 0 for v = 0.
        steps: Products that were taken.
        negative: Whether it ended at a direction of negative curvature.
    """

    vector: Tensor
    residual: float
    steps: int
    negative: bool


def last_layer_product(gradients: LastLayer) -> Product:
    """Return v -> H v for the last linear layer of the rows given."""
    x, chances = gradients.features, gradients.chances

    def product(vector: Tensor) -> Tensor:
        moved = x @ vector.view(chances.shape[1], -1).T
        return (bent(chances, moved).T @ x).flatten() / len(x)

    return product


def bent(chances: Tensor, moved: Tensor) -> Tensor:
    """Return ``(diag p - p p^T) m`` of each row, (n, classes).

    What moves the likeliest logit is taken from all, which changes nothing but that no term is a
    difference of like numbers where p is close to 1.

    Args:
        chances: Softmax p of the logits, (n, classes).
        moved: m, (n, classes).
    """
    apart = moved - moved.gather(1, chances.argmax(1, keepdim=True))
    return chances * (apart - (chances * apart).sum(1, keepdim=True))


def last_layer_matrix(gradients: LastLayer) -> Tensor:
    """Return H of the last linear layer, float64 (P, P)."""
    x, chances = gradients.features, gradients.chances
    classes, width = chances.shape[1], x.shape[1]
    out = x.new_empty(classes, width, classes, width)
    for a in range(classes):
        for b in range(a + 1):
            weights = chances[:, a] * (float(a == b) - chances[:, b]) / len(x)
            out[a, :, b] = (x * weights[:, None]).T @ x
            out[b, :, a] = out[a, :, b]
    return out.view(classes * width, classes * width)


def factorised(gradients: LastLayer, damping: float, memory_gib: float) -> Tensor | None:
    """Return the Cholesky factor of H + damping, float64 (P, P), or None where it is too large."""
    width = gradients.width
    if width > _FACTORISED or 3 * 8 * width**2 > memory_gib * GIB / 2:
        return None
    matrix = last_layer_matrix(gradients)
    matrix.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return None if failed else factor


def all_layers_product(gradients: Streamed, kind: Kind) -> Product:
    """Return v -> H v for all weights of a model, a pass over the rows each."""
    module, weights = gradients.module, weights_of(gradients.module)
    buffers = dict(module.named_buffers())

    def hessian(x: Tensor, y: Tensor, direction: dict[str, Tensor]) -> dict[str, Tensor]:
        def loss(own: dict[str, Tensor]) -> Tensor:
            return cross_entropy(torch.func.functional_call(module, (own, buffers), (x,)), y).sum()

        out: dict[str, Tensor] = torch.func.jvp(torch.func.grad(loss), (weights,), (direction,))[1]
        return out

    def gauss_newton(x: Tensor, y: Tensor, direction: dict[str, Tensor]) -> dict[str, Tensor]:
        def outputs(own: dict[str, Tensor]) -> Tensor:
            out: Tensor = torch.func.functional_call(module, (own, buffers), (x,))
            return out

        logits, moved = torch.func.jvp(outputs, (weights,), (direction,))[:2]
        wide = torch.float32 if logits.device.type == "mps" else torch.float64
        pulled = bent(logits.to(wide).softmax(1), moved.to(wide)).to(logits.dtype)
        out: dict[str, Tensor] = torch.func.vjp(outputs, weights)[1](pulled)[0]
        return out

    curved = hessian if kind == "hessian" else gauss_newton

    def product(vector: Tensor) -> Tensor:
        out = torch.zeros_like(vector)
        with exact_convolutions():
            for _, x, y in gradients.chunks():
                out += flat(curved(x, y, unflat(vector, weights)))
        return out / gradients.rows

    return product


def conjugate_gradients(
    product: Product, damping: float, wanted: Tensor, tolerance: float, most: int
) -> Solution:
    """Solve (H + damping) s = v.

    Args:
        product: v -> H v.
        damping: Added to every eigenvalue, >= 0.
        wanted: v, (P,).
        tolerance: Relative residual at which it stops.
        most: Products at most, but for one that checks the residual.
    """
    length = float(torch.linalg.vector_norm(wanted))
    out, rest = torch.zeros_like(wanted), wanted.clone()
    ahead, size, steps, negative = rest.clone(), float(rest @ rest), 0, False
    while steps < most and size**0.5 > tolerance * length:
        bent = product(ahead) + damping * ahead
        steps, curvature = steps + 1, float(ahead @ bent)
        if curvature <= 0:
            negative = True
            break
        out += (size / curvature) * ahead
        rest -= (size / curvature) * bent
        before, size = size, float(rest @ rest)
        ahead = rest + (size / before) * ahead
    if not length > 0:
        return Solution(out, 0.0, steps, negative)
    left = product(out) + damping * out - wanted  # the recurrence's own residual drifts away
    return Solution(out, float(torch.linalg.vector_norm(left)) / length, steps, negative)
