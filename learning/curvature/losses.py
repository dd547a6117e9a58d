"""Losses of rows, written so that none is lost where a model is sure of its labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from learning.curvature.vectors import Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of outputs (n, k) and what they should be (n, ...): the loss of each row, (n,).
RowLoss = Callable[["Tensor", "Tensor"], "Tensor"]


def odds_against(logits: Tensor, labels: Tensor) -> Tensor:
    """Return r = log((1 - p) / p), p the softmax of the label, of each row, (n,).

    In float64, but on devices that have none.
    """
    wide = logits if logits.device.type == "mps" else logits.double()
    own = torch.arange(wide.shape[1], device=wide.device) == labels.unsqueeze(1)
    others = wide.masked_fill(own, -torch.inf).logsumexp(1)
    return others - wide.gather(1, labels.unsqueeze(1)).squeeze(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log softmax(logits)[label] of each row, float64 (n,); 0 only below r = -745."""
    return torch.nn.functional.softplus(odds_against(logits, labels), threshold=700)


def row_odds(module: nn.Module, x: Tensor, y: Tensor) -> Callable[[Weights], Tensor]:
    """Return r of rows, (n,), as a function of the weights."""
    buffers = dict(module.named_buffers())
    return lambda weights: odds_against(
        torch.func.functional_call(module, (weights, buffers), (x,)), y
    )


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ``|output - target|^2 / 2`` of each row, (n,), of outputs and targets (n, k)."""
    return (outputs - targets).square().flatten(1).sum(1) / 2


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
