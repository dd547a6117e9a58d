"""What a follower minimises: a mean loss over weighted rows and a ridge, as a function of weights.

    f(w) = sum_i a_i loss(x_i, y_i; w) / sum_i a_i  +  ridge / 2 |w|^2

Weights are vectors (P,) in the order of the model's parameters (`vectors`); the ridge takes in all
of them, biases too. The judges' loss is the same of other rows, without a ridge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from learning.curvature.losses import RowLoss, cross_entropy
from learning.curvature.passes import pieces, refuse_unfit
from learning.curvature.products import Curved, Kind, Product, curvature_of_rows
from learning.curvature.row_gradient import row_gradient
from learning.curvature.softmax import (
    by_class,
    in_order,
    own_layer,
    softmax_curved,
    softmax_gradient,
    times,
)
from learning.curvature.vectors import Weights, flat, unflat, weights_of
from learning.training.device import repeatable

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class RowObjective:
    """A mean loss over rows and a ridge.

    Softmax regression (`learning.models.softmax`) with cross-entropy goes by its closed form. The
    same bytes come out for any number of CPU threads.

    Attributes:
        module: In evaluation mode; its buffers are read, and its weights are not.
        x: Rows, float (n, ...), n >= 1, on the device and of the dtype of the model.
        y: Labels, int64 (n,), or what else the loss compares outputs with.
        shares: a, (n,), >= 0 and not all 0; None for 1 each.
        ridge: >= 0.
        loss: Of outputs and y, (n,).
        chunk: Rows of one pass; None for what fits caches or a GPU (`passes`), all in closed form.

    Raises:
        ValueError: Without rows or their mass, with a ridge below 0, with a model in training
            mode, or if there are not as many labels or shares as rows.
    """

    module: nn.Module
    x: Tensor
    y: Tensor
    shares: Tensor | None = None
    ridge: float = 0.0
    loss: RowLoss = cross_entropy
    chunk: int | None = None

    def __post_init__(self) -> None:
        refuse_unfit(self.module, self.x, self.y)
        if self.shares is not None and self.shares.shape != (len(self.x),):
            raise ValueError(
                f"shares of rows: expected ({len(self.x)},), got {tuple(self.shares.shape)}"
            )
        if not (self.mass > 0 and self.ridge >= 0):
            raise ValueError(
                f"a mean loss: expected rows of a mass > 0 and a ridge >= 0, got {self.mass:g} "
                f"and {self.ridge:g}"
            )

    @property
    def mass(self) -> float:
        """Return the sum of a."""
        return float(len(self.x) if self.shares is None else self.shares.sum())

    @repeatable()
    def value(self, weights: Tensor) -> float:
        """Return f(w), summed in float64."""
        own, buffers = unflat(weights, weights_of(self.module)), dict(self.module.named_buffers())
        total = 0.0
        with torch.no_grad():
            for x, y, shares in self._chunks():
                outputs = torch.func.functional_call(self.module, (own, buffers), (x,))
                total += float((self.loss(outputs, y) * shares).sum())
        return total / self.mass + self.ridge / 2 * float(weights @ weights)

    @repeatable()
    def gradient(self, weights: Tensor) -> Tensor:
        """Return the gradient of f, (P,)."""
        out = torch.zeros_like(weights)
        for x, y, shares in self._chunks():
            out += self._slope(weights, x, y, shares)
        return out / self.mass + self.ridge * weights

    @repeatable()
    def chances(self, weights: Tensor) -> Tensor:
        """Return the softmax of the outputs of all rows at w, (n, classes)."""
        own, buffers = unflat(weights, weights_of(self.module)), dict(self.module.named_buffers())
        with torch.no_grad():
            outputs = [
                torch.func.functional_call(self.module, (own, buffers), (x,))
                for x, _, _ in self._chunks()
            ]
        return torch.cat(outputs).softmax(1)

    def product(self, weights: Tensor, kind: Kind = "hessian") -> Product:
        """Return v -> H v, the curvature of f at w, the ridge's included."""
        layer = self._layer
        summed = self._streamed(weights, kind) if layer is None else self._closed(layer, weights)

        @repeatable()
        def product(vector: Tensor) -> Tensor:
            return summed(vector) / self.mass + self.ridge * vector

        return product

    def crossed(self, weights: Tensor, vector: Tensor, rows: slice = slice(None)) -> Tensor:
        """Return the gradient by some rows of ``<v, gradient of f>`` at w, of their shape.

        How fast f's minimum follows its rows: with v = H^-1 g, the total gradient by rows of a loss
        that has the gradient g at the minimum is minus this.
        """
        found = row_gradient(
            self.module, self.x[rows], self.y[rows], vector, weights=weights, loss=self.loss
        )
        if self.shares is not None:
            found *= self.shares[rows].view(-1, *[1] * (found.ndim - 1))
        return found / self.mass

    @property
    def _layer(self) -> nn.Linear | None:
        return own_layer(self.module) if self.loss is cross_entropy else None

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        shares = self.x.new_ones(len(self.x)) if self.shares is None else self.shares
        # closed forms keep no more than logits, and need no thought
        chunk = len(self.x) if self.chunk is None and self._layer is not None else self.chunk
        for piece in pieces(self.module, self.x, chunk):
            yield self.x[piece], self.y[piece], shares[piece]

    def _slope(self, weights: Tensor, x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
        """Return the gradient of the weighted sum of losses, (P,)."""
        layer = self._layer
        if layer is not None:
            bias = layer.bias is not None
            theta = by_class(weights, layer.out_features, bias)
            return in_order(softmax_gradient(theta, x.flatten(1), y, shares), bias)
        moving, buffers = weights.detach().requires_grad_(), dict(self.module.named_buffers())
        with torch.enable_grad():
            own = unflat(moving, weights_of(self.module))
            outputs = torch.func.functional_call(self.module, (own, buffers), (x,))
            return torch.autograd.grad((self.loss(outputs, y) * shares).sum(), moving)[0]

    def _closed(self, layer: nn.Linear, weights: Tensor) -> Product:
        """Return v -> H v of the weighted sum of losses by the softmax of all rows."""
        x, bias, classes = self.x.flatten(1), layer.bias is not None, layer.out_features
        chances = times(x, by_class(weights, classes, bias)).softmax(1)
        shares = x.new_ones(len(x)) if self.shares is None else self.shares

        def summed(vector: Tensor) -> Tensor:
            curved = softmax_curved(chances, x, by_class(vector, classes, bias), shares)
            return in_order(curved, bias)

        return summed

    def _streamed(self, weights: Tensor, kind: Kind) -> Product:
        """Return v -> H v of the weighted sum of losses, a pass over the rows each."""
        own = unflat(weights, weights_of(self.module))

        def summed(vector: Tensor) -> Tensor:
            out, direction = torch.zeros_like(vector), unflat(vector, own)
            for x, y, shares in self._chunks():
                out += flat(self._curved(own, kind, shares)(x, y, direction))
            return out

        return summed

    def _curved(self, own: Weights, kind: Kind, shares: Tensor) -> Curved:
        return curvature_of_rows(self.module, own, kind, self.loss, shares)
