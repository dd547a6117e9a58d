"""Poison that holds a model at given weights: it cancels the gradient of the clean rows there.

    e(x) = g + epsilon * mean over poison of grad_w loss(x_i, y_i; w)

g is the mean gradient of the clean rows at the target w, epsilon the poison's mass over the clean
mass. Where e is 0 the target is stationary, whatever the training. Rows descend |e|^2 / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from scipy.special import lambertw

from clients.data_attacks.parts.leaders import cooled
from learning.curvature.losses import RowLoss, cross_entropy
from learning.curvature.objective import RowObjective
from learning.curvature.reachability import Reachability, longest_row, reachability
from learning.curvature.row_gradient import row_gradient
from learning.curvature.softmax import by_class, own_layer
from learning.curvature.vectors import flat, unflat, weights_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.data_attacks.parts.leaders import Leader

Layers = Literal["all", "first"]


@dataclass(frozen=True, eq=False)
class Cancellation:
    """What is to be cancelled at a target.

    Attributes:
        module: The model, in evaluation mode; its own weights are not read.
        weights: w, the target, (P,).
        clean: g, (P,).
        epsilon: Mass of the poison over the clean mass, > 0.
        layers: `all`, or `first`: only the first parameter tensor, as in the public code.
        loss: Of outputs and labels, (n,).
    """

    module: nn.Module
    weights: Tensor
    clean: Tensor
    epsilon: float
    layers: Layers = "all"
    loss: RowLoss = cross_entropy

    def left(self, x: Tensor, y: Tensor) -> Tensor:
        """Return e, (P,), 0 in the layers that are not asked for."""
        poison = RowObjective(self.module, x, y, loss=self.loss).gradient(self.weights)
        return self._asked(self.clean + self.epsilon * poison)

    def share_of(self, left: Tensor) -> float:
        """Return |e| over |g|: 0 where the target is attained, 1 for poison of no effect."""
        whole = self._asked(self.clean).norm()
        return float(left.norm() / whole.clamp(min=torch.finfo(whole.dtype).tiny))

    def ascent(self, x: Tensor, y: Tensor, left: Tensor) -> Tensor:
        """Return the direction in which rows lower |e|^2 / 2, of their shape."""
        slope = row_gradient(self.module, x, y, left, weights=self.weights, loss=self.loss)
        return -self.epsilon / len(y) * slope

    def _asked(self, vector: Tensor) -> Tensor:
        if self.layers == "all":
            return vector
        first, *others = unflat(vector, weights_of(self.module)).items()
        return flat(dict([first, *((name, torch.zeros_like(w)) for name, w in others)]))


def cancelled(
    goal: Cancellation, leader: Leader, y: Tensor, steps: int, tolerance: float = 0.0
) -> tuple[Tensor, float]:
    """Move rows until the clean gradient is cancelled, and return the best rows met.

    Args:
        goal: What is to be cancelled.
        leader: Has the rows.
        y: Their labels, int64 (m,).
        steps: At most; the steps shrink along a cosine.
        tolerance: Share of the clean gradient at which it stops.

    Returns:
        The rows, (m, ...), and the share of the clean gradient that they leave.
    """
    best = leader.rows, math.inf
    for number in range(steps + 1):
        left = goal.left(leader.rows, y)
        share = goal.share_of(left)
        if share < best[1]:
            best = leader.rows, share
        if share <= tolerance or number == steps:
            break
        leader.ascend(goal.ascent(leader.rows, y, left), cooled(number, steps))
    return best


def bounds(goal: Cancellation, shape: tuple[int, ...]) -> Reachability:
    """Return how much poison the target takes at least, for inputs of a shape in [0, 1].

    What bounds the last layer of any model bounds the model: its features are inputs, of unknown
    length. Nothing bounds the first of several layers alone.
    """
    layer = own_layer(goal.module)
    if goal.layers == "first":
        return Reachability(0.0, 0.0) if layer is None else _without_biases(goal, layer, shape)
    head = layer if layer is not None else getattr(goal.module, "head", None)
    if not isinstance(head, torch.nn.Linear):
        return Reachability(0.0, 0.0)
    size, bias = sum(w.numel() for w in head.parameters()), head.bias is not None
    theta, slope = (
        by_class(vector[-size:], head.out_features, bias) for vector in (goal.weights, goal.clean)
    )
    longest = math.inf if layer is None else longest_row(shape, bias=bias)
    return reachability(theta, slope, longest)


def _without_biases(goal: Cancellation, layer: nn.Linear, shape: tuple[int, ...]) -> Reachability:
    """Bound the weights alone of softmax regression, its biases b being fixed.

    As with free biases, with sum over k of exp(b_k - b_y) in the place of K - 1 for the best y.
    """
    classes, bias = layer.out_features, layer.bias is not None
    theta, slope = (by_class(v, classes, bias).double() for v in (goal.weights, goal.clean))
    width = layer.in_features
    fixed = theta[:, width] if bias else theta.new_zeros(classes)
    others = float((fixed.exp().sum() / fixed.exp()).max()) - 1
    along = float((theta[:, :width] * slope[:, :width]).sum())
    length = float(slope[:, :width].norm())
    by_box = length / (math.sqrt(2) * longest_row(shape, bias=False))
    return Reachability(max(0.0, along / float(lambertw(others / math.e).real)), by_box)
