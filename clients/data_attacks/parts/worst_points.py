"""Inputs in [0, 1] on which a model's loss is largest, with a decoy's loss bounded or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from learning.curvature.losses import cross_entropy
from learning.curvature.row_gradient import loss_gradient
from learning.curvature.softmax import own_layer
from learning.curvature.vectors import unflat, weights_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def margin_corner(module: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
    """Return where softmax regression is surest of another class than y; None for other models.

    The logit of a class over that of the label is linear in the input: it is largest at a corner of
    [0, 1], 1 where its weight is above 0. Of all other classes the best is taken, the first of
    equals.

    Args:
        module: The model.
        x: Rows, float (m, ...): of their shape and dtype the answer is.
        y: Their labels, int64 (m,).
    """
    layer = own_layer(module)
    if layer is None:
        return None
    lead = layer.weight.detach()[None] - layer.weight.detach()[y][:, None]  # (m, K, d)
    most = lead.clamp(min=0).sum(2)
    if layer.bias is not None:
        most = most + layer.bias.detach()[None] - layer.bias.detach()[y][:, None]
    rows = torch.arange(len(y), device=y.device)
    most[rows, y] = -torch.inf
    return (lead[rows, most.argmax(1)] > 0).to(x.dtype).view_as(x)


@dataclass(frozen=True, eq=False)
class Decoy:
    """A model on which rows are to look harmless.

    Attributes:
        weights: Of the model in attack, (P,).
        threshold: Largest loss of a row there.
    """

    weights: Tensor
    threshold: float


def climbed(
    module: nn.Module, x: Tensor, y: Tensor, steps: int, step: float, decoy: Decoy | None = None
) -> Tensor:
    """Return the best rows met on the way up the loss by signed steps within [0, 1].

    A row above the decoy's threshold goes down the decoy's loss instead (Polyak's switching
    subgradients). Best: of those below the threshold the one of the largest loss; of a row that
    never is below, the one of the smallest loss at the decoy. Steps shrink to a tenth.
    """
    best, value = x.clone(), torch.full((len(y),), -torch.inf, dtype=x.dtype, device=x.device)
    for number in range(steps + 1):
        found, bad = _value(module, x, y, decoy)
        better = found > value
        best[better], value = x[better], torch.where(better, found, value)
        if number < steps:
            rate = step * (1 - 0.9 * number / steps)
            x = (x + rate * _way(module, x, y, bad, decoy).sign()).clamp(0, 1)
    return best


def _losses(module: nn.Module, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    own = weights_of(module) if weights is None else unflat(weights, weights_of(module))
    with torch.no_grad():
        parts = [
            cross_entropy(torch.func.functional_call(module, own, (some,)), labels)
            for some, labels in zip(torch.split(x, 1024), torch.split(y, 1024), strict=True)
        ]
    return torch.cat(parts).to(x.dtype)


def _value(
    module: nn.Module, x: Tensor, y: Tensor, decoy: Decoy | None
) -> tuple[Tensor, Tensor | None]:
    """Return what ranks rows, and which are above the threshold."""
    own = _losses(module, x, y)
    if decoy is None:
        return own, None
    there = _losses(module, x, y, decoy.weights)
    bad = there > decoy.threshold
    # losses are >= 0: every row below the threshold ranks above all others
    return torch.where(bad, -there, own), bad


def _way(
    module: nn.Module, x: Tensor, y: Tensor, bad: Tensor | None, decoy: Decoy | None
) -> Tensor:
    up = loss_gradient(module, x, y)
    if decoy is None or bad is None or not bad.any():
        return up
    up[bad] = -loss_gradient(module, x[bad], y[bad], weights=decoy.weights)
    return up
