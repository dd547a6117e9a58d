"""How rows move the weights that are trained on them: the one primitive of crafted poison.

    row_gradient = d/dx <v, d/dw sum_i loss(x_i, y_i; w)>

What v and w are makes the method: the solution of (H + damping) v = gradient of the judges' loss
at the follower (total gradient descent, influence), the summed gradient of all rows at a target
(gradient cancelling), an adjoint along a trajectory (back-gradient), the slope of a cosine
(gradient matching). The loss is **summed** over the rows and has no ridge, which rows do not enter:
whoever means a mean over n rows divides by n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch

from learning.curvature.losses import RowLoss, cross_entropy
from learning.curvature.passes import pieces, refuse_unfit
from learning.curvature.softmax import by_class, own_layer, softmax_row_gradient
from learning.curvature.vectors import Weights, unflat, vector_of, weights_of
from learning.training.device import repeatable

if TYPE_CHECKING:
    from torch import Tensor, nn

Form = Literal["auto", "double_backward", "forward_over_reverse"]
Piece = Callable[["Tensor", "Tensor"], "Tensor"]


def row_gradient(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    vector: Tensor,
    *,
    weights: Tensor | None = None,
    layers: Literal["all", "last"] = "all",
    loss: RowLoss = cross_entropy,
    form: Form = "auto",
    chunk: int | None = None,
) -> Tensor:
    """Return the gradient by rows of ``<v, d sum-loss / d w>``, of the shape of `x`.

    `auto` takes the closed form of softmax regression and of a last layer on frozen features, and
    else one double backward; forward over reverse mode is a tenth cheaper on convolutions, and
    dearer on small perceptrons. All forms give the same to rounding, each the same bytes for any
    number of CPU threads, and hold the graph of one chunk of rows.

    Args:
        module: In evaluation mode; it stays as it is.
        x: Rows, float (n, ...), on the device and of the dtype of the model.
        y: Labels, int64 (n,), or what else the loss compares outputs with.
        vector: v, (P,), in the order of the model's parameters; with `layers: last`, of those of
            its `head`, the features before it being frozen (they still depend on x).
        weights: w, (P,), in v's order; None for the model's own.
        layers: The weights that rows move.
        loss: Of outputs and y, (n,).
        form: How it is computed; `layers: last` has its closed form only.
        chunk: Rows of one pass; None for what fits caches or a GPU (`passes`).

    Raises:
        ValueError: If v or w are not as long as the weights or of another dtype than the rows, if
            `last` is asked of another loss or of a model without a linear `head`, if the model is
            in training mode, or if there are not as many labels as rows.
    """
    last = layers == "last"
    layer = _head(module) if last else own_layer(module) if form == "auto" else None
    part = layer if last and layer is not None else module
    w = _checked(vector_of(part) if weights is None else weights, part, x, "w")
    v = _checked(vector, part, x, "v")
    if last and loss is not cross_entropy:
        raise ValueError("layers: last: the closed form is that of cross_entropy: leave out loss")
    if layer is not None and loss is cross_entropy:
        return in_chunks(module, _closed(module, layer, w, v, last), x, y, chunk)
    make = _forward_over_reverse if form == "forward_over_reverse" else _double_backward
    return in_chunks(module, make(module, w, v, loss), x, y, chunk)


def loss_gradient(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    weights: Tensor | None = None,
    loss: RowLoss = cross_entropy,
    chunk: int | None = None,
) -> Tensor:
    """Return the gradient by rows of their **summed** loss, of the shape of `x`.

    The loss of a row depends on no other row (the model is in evaluation mode), so that each row's
    part is the gradient of its own loss. Arguments as of `row_gradient`.
    """
    w = _checked(vector_of(module) if weights is None else weights, module, x, "w")
    own, buffers = unflat(w, weights_of(module)), dict(module.named_buffers())

    def piece(rows: Tensor, labels: Tensor) -> Tensor:
        rows = rows.detach().requires_grad_()
        with torch.enable_grad():
            outputs = torch.func.functional_call(module, (own, buffers), (rows,))
            return torch.autograd.grad(loss(outputs, labels).sum(), rows)[0]

    return in_chunks(module, piece, x, y, chunk)


@repeatable()
def in_chunks(module: nn.Module, piece: Piece, x: Tensor, y: Tensor, chunk: int | None) -> Tensor:
    """Return what a function makes of rows, some at a time, of the shape of `x`."""
    refuse_unfit(module, x, y)
    out = torch.empty_like(x)
    for rows in pieces(module, x, chunk):
        out[rows] = piece(x[rows], y[rows])
    return out


def _head(module: nn.Module) -> nn.Linear:
    head = getattr(module, "head", None)
    if not isinstance(head, torch.nn.Linear):
        raise ValueError("layers: last: expected a model with a linear `head` and `features`")
    return head


def _checked(vector: Tensor, part: nn.Module, x: Tensor, name: str) -> Tensor:
    count = sum(p.numel() for p in part.parameters())
    if vector.shape != (count,) or vector.dtype != x.dtype:
        raise ValueError(
            f"{name} of a row gradient: expected a vector of {count} of the rows' {x.dtype}, got "
            f"{tuple(vector.shape)} of {vector.dtype}"
        )
    return vector.detach()


def _closed(module: nn.Module, layer: nn.Linear, w: Tensor, v: Tensor, last: bool) -> Piece:
    """Return the closed form on features, pulled back through what makes them of rows."""
    bias, classes = layer.bias is not None, layer.out_features
    theta, along = by_class(w, classes, bias), by_class(v, classes, bias)

    def moved(features: Tensor, y: Tensor) -> Tensor:
        return softmax_row_gradient(theta, features, y, along)

    def through(x: Tensor, y: Tensor) -> Tensor:
        rows = x.detach().requires_grad_()
        with torch.enable_grad():
            features: Tensor = module.features(rows)  # type: ignore[operator]
        return torch.autograd.grad(features, rows, moved(features.detach(), y))[0]

    return through if last else lambda x, y: moved(x.flatten(1), y).view_as(x)


def _double_backward(module: nn.Module, w: Tensor, v: Tensor, loss: RowLoss) -> Piece:
    buffers, shapes = dict(module.named_buffers()), weights_of(module)

    def piece(x: Tensor, y: Tensor) -> Tensor:
        moving, rows = w.detach().requires_grad_(), x.detach().requires_grad_()
        with torch.enable_grad():
            own = unflat(moving, shapes)
            outputs = torch.func.functional_call(module, (own, buffers), (rows,))
            total = loss(outputs, y).sum()
            slope = torch.autograd.grad(total, moving, create_graph=True)[0]
            return torch.autograd.grad(slope @ v, rows, materialize_grads=True)[0]

    return piece


def _forward_over_reverse(module: nn.Module, w: Tensor, v: Tensor, loss: RowLoss) -> Piece:
    buffers, shapes = dict(module.named_buffers()), weights_of(module)

    def piece(x: Tensor, y: Tensor) -> Tensor:
        def slope(own: Weights) -> Tensor:
            def total(rows: Tensor) -> Tensor:
                return loss(torch.func.functional_call(module, (own, buffers), (rows,)), y).sum()

            out: Tensor = torch.func.grad(total)(x)
            return out

        out: Tensor = torch.func.jvp(slope, (unflat(w, shapes),), (unflat(v, shapes),))[1]
        return out

    return piece
