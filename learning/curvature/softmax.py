"""Softmax regression in closed form, for vectors in the order of a linear layer's parameters.

Of rows a (features, and a 1 where there is a bias), weights Theta (classes, D), P = softmax(a
Theta^T), Y the labels' ones and V a vector in weights, (classes, D), with U = a V^T:

    gradient by Theta    (P - Y)^T a
    H V                  (P o U - P rowsum(P o U))^T a
    row gradient         (P - Y) V + (P o U - P rowsum(P o U)) Theta, the bias's column dropped
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


def rows_of(features: Tensor, bias: bool) -> Tensor:
    """Return rows a, (n, D), of features (n, d)."""
    return torch.cat([features, features.new_ones(len(features), 1)], 1) if bias else features


def own_layer(module: nn.Module) -> nn.Linear | None:
    """Return the linear layer of a model that is nothing but that on its flattened inputs."""
    if type(module) is not Classifier or not isinstance(module.body, torch.nn.Sequential):
        return None
    plain = all(isinstance(part, torch.nn.Flatten | torch.nn.Identity) for part in module.body)
    return module.head if plain else None


def errors_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax - onehot, (n, classes), whose own entry is minus the sum of the others."""
    out = logits.softmax(1)
    own = (torch.arange(len(labels), device=labels.device), labels)
    out[own] = 0
    out[own] = -out.sum(1)
    return out


def softmax_row_gradient(theta: Tensor, a: Tensor, y: Tensor, along: Tensor, bias: bool) -> Tensor:
    """Return the gradient by features of ``<V, d sum-loss / d Theta>``, (n, d).

    Args:
        theta: Theta, (classes, D).
        a: Rows, (n, D), those with a bias ending in 1.
        y: Labels, int64 (n,).
        along: V, (classes, D).
        bias: Whether the last column of all three is the bias's.
    """
    logits, width = a @ theta.T, theta.shape[1] - bias
    pulled = bent(logits.softmax(1), a @ along.T)
    return errors_of(logits, y) @ along[:, :width] + pulled @ theta[:, :width]


def softmax_gradient(theta: Tensor, a: Tensor, y: Tensor, shares: Tensor) -> Tensor:
    """Return the gradient of the weighted sum of losses, (classes, D); shares are (n,)."""
    return (errors_of(a @ theta.T, y) * shares[:, None]).T @ a


def softmax_curved(chances: Tensor, a: Tensor, along: Tensor, shares: Tensor) -> Tensor:
    """Return H V of the weighted sum of losses, (classes, D), at the softmax of rows given."""
    return (bent(chances, a @ along.T) * shares[:, None]).T @ a
