"""Softmax regression in closed form, for vectors in the order of a linear layer's parameters.

Of rows a (features, and a 1 where there is a bias), weights Theta (classes, D), P = softmax(a
Theta^T), Y the labels' ones and V a vector in weights, (classes, D), with U = a V^T:

    gradient by Theta    (P - Y)^T a
    H V                  (P o U - P rowsum(P o U))^T a
    row gradient         (P - Y) V + (P o U - P rowsum(P o U)) Theta, the bias's column dropped

Features x are (n, d); that there is a bias is told by D = d + 1, and the 1 is never written out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from learning.curvature.losses import bent
from learning.models.parts.modules import Classifier

if TYPE_CHECKING:
    from torch import Tensor, nn


def by_class(vector: Tensor, classes: int, bias: bool) -> Tensor:
    """Return a layer's vector, weights and then biases, as (classes, D), the bias last."""
    if not bias:
        return vector.view(classes, -1)
    return torch.cat([vector[:-classes].view(classes, -1), vector[-classes:, None]], 1)


def in_order(matrix: Tensor, bias: bool) -> Tensor:
    """Return (classes, D) as a layer's vector; the inverse of `by_class`."""
    if not bias:
        return matrix.flatten()
    return torch.cat([matrix[:, :-1].flatten(), matrix[:, -1]])


def times(x: Tensor, theta: Tensor) -> Tensor:
    """Return a Theta^T, (n, classes)."""
    width = x.shape[1]
    out = x @ theta[:, :width].T
    return out if theta.shape[1] == width else out + theta[:, width]


def gathered(errors: Tensor, x: Tensor, bias: bool) -> Tensor:
    """Return E^T a, (classes, D), of E (n, classes)."""
    out = errors.T @ x
    return torch.cat([out, errors.sum(0)[:, None]], 1) if bias else out


def own_layer(module: nn.Module) -> nn.Linear | None:
    """Return the linear layer of a model that is nothing but that on its flattened inputs."""
    if type(module) is not Classifier or not isinstance(module.body, torch.nn.Sequential):
        return None
    plain = all(isinstance(part, torch.nn.Flatten | torch.nn.Identity) for part in module.body)
    return module.head if plain else None


def head_of(module: Classifier) -> Classifier:
    """Return a model's last layer as softmax regression on its features, (n, d), the same weights.

    With the features of rows frozen, a `RowObjective` of it goes by closed forms.
    """
    out = Classifier(torch.nn.Sequential(torch.nn.Flatten()), module.head)
    return out.train(module.training)


def errors_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax - onehot, (n, classes), whose own entry is minus the sum of the others."""
    out = logits.softmax(1)
    own = (torch.arange(len(labels), device=labels.device), labels)
    out[own] = 0
    out[own] = -out.sum(1)
    return out


def softmax_row_gradient(theta: Tensor, x: Tensor, y: Tensor, along: Tensor) -> Tensor:
    """Return the gradient by features of ``<V, d sum-loss / d Theta>``, (n, d).

    Args:
        theta: Theta, (classes, D).
        x: Features, (n, d).
        y: Labels, int64 (n,).
        along: V, (classes, D).
    """
    logits, width = times(x, theta), x.shape[1]
    pulled = bent(logits.softmax(1), times(x, along))
    # one product of twice the classes: rows are written once
    both = torch.cat([along[:, :width], theta[:, :width]])
    return torch.cat([errors_of(logits, y), pulled], 1) @ both


def softmax_gradient(theta: Tensor, x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
    """Return the gradient of the weighted sum of losses, (classes, D); shares are (n,)."""
    errors = errors_of(times(x, theta), y) * shares[:, None]
    return gathered(errors, x, theta.shape[1] > x.shape[1])


def softmax_curved(chances: Tensor, x: Tensor, along: Tensor, shares: Tensor) -> Tensor:
    """Return H V of the weighted sum of losses, (classes, D), at the softmax of rows given."""
    pulled = bent(chances, times(x, along)) * shares[:, None]
    return gathered(pulled, x, along.shape[1] > x.shape[1])
