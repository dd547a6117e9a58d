"""Products H v of a model's curvature with a vector, over rows in batches, for all its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch

from learning.curvature.losses import RowLoss, bent, cross_entropy
from learning.curvature.streamed import Streamed
from learning.curvature.vectors import Weights, flat, unflat, weights_of
from learning.training.device import exact_convolutions

if TYPE_CHECKING:
    from torch import Tensor, nn

Product = Callable[["Tensor"], "Tensor"]
Kind = Literal["hessian", "gauss_newton"]
# Of rows, what they should give and a direction in weights: H of their summed loss times it.
Curved = Callable[["Tensor", "Tensor", Weights], Weights]


def all_layers_product(gradients: Streamed, kind: Kind) -> Product:
    """Return v -> H v for all weights of a model, a pass over the rows each."""
    weights = weights_of(gradients.module)
    curved = curvature_of_rows(gradients.module, weights, kind)

    def product(vector: Tensor) -> Tensor:
        out = torch.zeros_like(vector)
        with exact_convolutions():
            for _, x, y in gradients.chunks():
                out += flat(curved(x, y, unflat(vector, weights)))
        return out / gradients.rows

    return product


def curvature_of_rows(
    module: nn.Module,
    weights: Weights,
    kind: Kind,
    loss: RowLoss = cross_entropy,
    shares: Tensor | None = None,
) -> Curved:
    """Return the product of the curvature of a **summed** loss of rows, at weights given.

    `hessian` is forward over reverse mode. `gauss_newton` leaves out the model's own second
    derivatives, ``J^T (d^2 loss / d outputs^2) J``, and has no negative eigenvalue where the loss
    is convex in the outputs. Rows count by their shares, (n,), where these are given.
    """
    buffers = dict(module.named_buffers())

    def outputs_of(own: Weights, x: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(module, (own, buffers), (x,))
        return out

    def hessian(x: Tensor, y: Tensor, direction: Weights) -> Weights:
        def total(own: Weights) -> Tensor:
            losses = loss(outputs_of(own, x), y)
            return (losses if shares is None else losses * shares).sum()

        out: Weights = torch.func.jvp(torch.func.grad(total), (weights,), (direction,))[1]
        return out

    def gauss_newton(x: Tensor, y: Tensor, direction: Weights) -> Weights:
        def outputs(own: Weights) -> Tensor:
            return outputs_of(own, x)

        found, moved = torch.func.jvp(outputs, (weights,), (direction,))[:2]
        pulled = _outer(loss, found, y, moved)
        pulled = pulled if shares is None else pulled * shares[:, None]
        out: Weights = torch.func.vjp(outputs, weights)[1](pulled)[0]
        return out

    return hessian if kind == "hessian" else gauss_newton


def _outer(loss: RowLoss, outputs: Tensor, y: Tensor, moved: Tensor) -> Tensor:
    """Return the second derivative of the loss by the outputs, times what they move, (n, k)."""
    if loss is cross_entropy:
        wide = torch.float32 if outputs.device.type == "mps" else torch.float64
        return bent(outputs.to(wide).softmax(1), moved.to(wide)).to(outputs.dtype)

    def slope(own: Tensor) -> Tensor:
        out: Tensor = torch.func.grad(lambda z: loss(z, y).sum())(own)
        return out

    out: Tensor = torch.func.jvp(slope, (outputs,), (moved,))[1]
    return out
