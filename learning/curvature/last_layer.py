"""Gradients and curvature of the last linear layer, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from learning.curvature.losses import bent, odds_against
from learning.curvature.per_row import Measured
from learning.pool import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

GIB = 2**30
# Wider systems take more time to factorise than to iterate.
_FACTORISED = 4096


@dataclass(frozen=True, eq=False)
class LastLayer(Measured):
    """Gradients by the weights and bias of the last linear layer, in closed form, float64.

    That of a row is the outer product of its error ``softmax(logits) - onehot(label)`` with its
    features and a 1, so P = classes * (d + 1).

    Attributes:
        features: Inputs of the layer and a column of ones, float64 (n, d + 1).
        logs: Logarithm of the softmax of the logits, float64 (n, classes).
        labels: int64 (n,).
        unit: See `Measured`.
    """

    features: Tensor
    logs: Tensor
    labels: Tensor
    unit: float = 0.0

    @classmethod
    def of(cls, features: Floats, logits: Floats, labels: Ints, device: torch.device) -> LastLayer:
        """Return those of features (n, d), logits (n, classes) and labels (n,)."""
        device = torch.device("cpu") if device.type == "mps" else device  # has no float64
        x = torch.from_numpy(features).to(device, torch.float64)
        logs = torch.from_numpy(logits).to(device, torch.float64).log_softmax(1)
        ones = x.new_ones(len(x), 1)
        return cls(torch.cat([x, ones], 1), logs, torch.from_numpy(labels).to(device))

    @property
    def chances(self) -> Tensor:
        """Return the softmax of the logits, float64 (n, classes)."""
        return self.logs.exp()

    @property
    def errors(self) -> Tensor:
        """Return softmax - onehot, float64 (n, classes); each row sums to 0."""
        own = (torch.arange(len(self.labels), device=self.device), self.labels)
        out = (self.logs - self.unit).exp()
        out[own] = 0
        out[own] = -out.sum(1)
        return out

    def odds(self) -> Tensor:
        """Return r of each row."""
        return odds_against(self.logs, self.labels)

    def divided(self, unit: float) -> LastLayer:
        """Return them divided by ``exp(unit)``."""
        return replace(self, unit=self.unit + unit)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.features)

    @property
    def width(self) -> int:
        """Number of weights, the bias included."""
        return self.features.shape[1] * self.logs.shape[1]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.features.device

    @property
    def dtype(self) -> torch.dtype:
        """float64."""
        return self.features.dtype

    def times(self, direction: Tensor) -> Tensor:
        """Return G v."""
        by_class = direction.view(self.logs.shape[1], -1)
        return (self.features @ by_class.T * self.errors).sum(1)

    def transposed(self, weights: Tensor) -> Tensor:
        """Return G^T u."""
        return ((self.errors * weights[:, None]).T @ self.features).flatten()

    def take(self, rows: Ints) -> LastLayer:
        """Return the gradients of some rows."""
        at = torch.from_numpy(rows).to(self.device)
        return LastLayer(self.features[at], self.logs[at], self.labels[at], self.unit)


def last_layer_product(gradients: LastLayer) -> Callable[[Tensor], Tensor]:
    """Return v -> H v for the last linear layer of the rows given."""
    x, chances = gradients.features, gradients.chances

    def product(vector: Tensor) -> Tensor:
        moved = x @ vector.view(chances.shape[1], -1).T
        return (bent(chances, moved).T @ x).flatten() / len(x)

    return product


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
