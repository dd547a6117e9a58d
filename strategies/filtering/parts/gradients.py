"""The gradients of the losses of n rows, as a matrix G (n, P) that need not be in memory.

Three forms, for the same two products: of the last linear layer G is a sum of outer products of
features and errors and is never formed; of all layers it is computed by `torch.func.vmap` and kept
where it fits into memory, and otherwise streamed: G v is one forward-mode pass over the rows, and
G^T u one backward pass, so that not a single row's gradient is ever made.

A model that is sure of a label leaves a gradient of size 1 - p, and p, a softmax in float32, is
exactly 1 from a margin of 17 nats on: the gradient would be 0, and the method would stand still.
So the loss is written by the odds against the label,

    r = log sum_{k != y} exp(logit_k) - logit_y,   loss = log(1 + e^r),   d loss = (1 - p) dr,

where dr is of the size of the logits' own derivatives and 1 - p = 1 / (1 + e^-r), in float64, is
never a difference of like numbers. Where only the rows' relation to each other matters,
`in_units` divides all gradients by the largest 1 - p, so that none is lost however large the
logits are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from learning.pool import Floats, Ints
from learning.training.device import exact_convolutions
from learning.training.engine.memory import output_sizes
from learning.training.job import Trained
from strategies.base import Defender

if TYPE_CHECKING:
    from torch import Tensor, nn

GIB = 2**30
# Rows of a pass whose parts stay in a core's cache (measured: more are slower), for products and
# for gradients that are kept; a GPU takes as many as fit.
_CPU_ROWS, _CPU_KEPT = 256, 64
Weights = dict[str, "Tensor"]


class RowGradients(ABC):
    """The matrix G of n rows, float32 or float64, on one device."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Number of rows, n."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of weights, P."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it is, and its products."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type of its products."""

    @abstractmethod
    def times(self, direction: Tensor) -> Tensor:
        """Return G v, (n,), of v (P,)."""

    @abstractmethod
    def transposed(self, weights: Tensor) -> Tensor:
        """Return G^T u, (P,), of u (n,)."""

    @abstractmethod
    def take(self, rows: Ints) -> RowGradients:
        """Return the gradients of the rows at these positions, int64 (k,)."""


class Measured(RowGradients):
    """Gradients whose size is known row by row, before they are formed.

    Attributes:
        unit: Logarithm of what all gradients are divided by; 0 for gradients as they are.
    """

    unit: float

    @abstractmethod
    def take(self, rows: Ints) -> Self:
        """Return the gradients of the rows at these positions, int64 (k,)."""

    @abstractmethod
    def odds(self) -> Tensor:
        """Return r of each row, float64 (n,)."""

    @abstractmethod
    def divided(self, unit: float) -> Self:
        """Return them divided by ``exp(unit)``."""

    def in_units(self) -> Self:
        """Return them divided by the largest 1 - p of the rows; as they are where there is none."""
        largest = (
            torch.nn.functional.logsigmoid(self.odds()).max() if self.rows else torch.zeros(())
        )
        return self.divided(float(largest)) if bool(largest.isfinite()) else self


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


@dataclass(frozen=True, eq=False)
class Stored(RowGradients):
    """Gradients in memory.

    Attributes:
        matrix: (n, P).
    """

    matrix: Tensor

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.matrix)

    @property
    def width(self) -> int:
        """Number of weights."""
        return self.matrix.shape[1]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the model."""
        return self.matrix.dtype

    def times(self, direction: Tensor) -> Tensor:
        """Return G v."""
        return self.matrix @ direction

    def transposed(self, weights: Tensor) -> Tensor:
        """Return G^T u."""
        return self.matrix.T @ weights

    def take(self, rows: Ints) -> Stored:
        """Return the gradients of some rows."""
        return Stored(self.matrix[torch.from_numpy(rows).to(self.device)])


@dataclass(frozen=True, eq=False)
class Streamed(Measured):
    """Gradients by all weights of a model, computed anew for each product.

    Attributes:
        module: In evaluation mode.
        x: Inputs, float32 (n, C, H, W), on the CPU.
        y: Labels, int64 (n,).
        chunk: Rows of one pass.
        unit: See `Measured`.
    """

    module: nn.Module
    x: Floats
    y: Ints
    chunk: int
    unit: float = 0.0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def width(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """That of the model's weights."""
        return next(self.module.parameters()).dtype

    def chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield the rows in pieces: where they are, inputs and labels on the device."""
        for first in range(0, len(self.y), self.chunk):
            piece = slice(first, first + self.chunk)
            x = torch.from_numpy(self.x[piece]).to(self.device, self.dtype)
            yield piece, x, torch.from_numpy(self.y[piece]).to(self.device)

    def times(self, direction: Tensor) -> Tensor:
        """Return G v by forward-mode passes."""
        weights, out = weights_of(self.module), direction.new_empty(self.rows)
        tangents = (unflat(direction, weights),)
        with exact_convolutions():
            for piece, x, y in self.chunks():
                odds, moved = torch.func.jvp(row_odds(self.module, x, y), (weights,), tangents)[:2]
                out[piece] = (self._sizes(odds) * moved).to(out.dtype)
        return out

    def transposed(self, weights: Tensor) -> Tensor:
        """Return G^T u by backward passes."""
        own, out = weights_of(self.module), weights.new_zeros(self.width)
        with exact_convolutions():
            for piece, x, y in self.chunks():
                odds, pull = torch.func.vjp(row_odds(self.module, x, y), own)[:2]
                out += flat(pull(self._sizes(odds) * weights[piece])[0])
        return out

    def odds(self) -> Tensor:
        """Return r of each row, by a pass over them."""
        own, out = weights_of(self.module), list[torch.Tensor]()
        with exact_convolutions():
            out = [row_odds(self.module, x, y)(own) for _, x, y in self.chunks()]
        return torch.cat(out)

    def divided(self, unit: float) -> Streamed:
        """Return them divided by ``exp(unit)``."""
        return replace(self, unit=self.unit + unit)

    def _sizes(self, odds: Tensor) -> Tensor:
        return (torch.nn.functional.logsigmoid(odds) - self.unit).exp()

    def take(self, rows: Ints) -> Streamed:
        """Return the gradients of some rows."""
        return replace(self, x=self.x[rows], y=self.y[rows])

    def stored(self) -> Stored:
        """Return them all in memory, computed in batches by `torch.func.vmap`."""
        weights, buffers = weights_of(self.module), dict(self.module.named_buffers())

        def odds(own: Weights, x: Tensor, y: Tensor) -> Tensor:
            logits = torch.func.functional_call(self.module, (own, buffers), (x.unsqueeze(0),))
            return odds_against(logits, y.unsqueeze(0))[0]

        each = torch.func.vmap(torch.func.grad_and_value(odds), in_dims=(None, 0, 0))
        out = torch.empty(self.rows, self.width, device=self.device, dtype=self.dtype)
        most = min(self.chunk, _CPU_KEPT) if self.device.type == "cpu" else self.chunk
        with exact_convolutions():
            for piece, x, y in replace(self, chunk=most).chunks():
                parts, found = each(weights, x, y)
                torch.cat([part.flatten(1) for part in parts.values()], 1, out=out[piece])
                out[piece] *= self._sizes(found).to(out.dtype)[:, None]
        return Stored(out)


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


def weights_of(module: nn.Module) -> Weights:
    """Return a model's weights by name."""
    return {name: p.detach() for name, p in module.named_parameters()}


def flat(weights: Weights) -> Tensor:
    """Return weights as one vector (P,)."""
    return torch.cat([w.flatten() for w in weights.values()])


def unflat(vector: Tensor, like: Weights) -> Weights:
    """Return a vector (P,) in the shapes of a model's weights."""
    parts = torch.split(vector, [w.numel() for w in like.values()])
    return {n: part.view_as(w) for part, (n, w) in zip(parts, like.items(), strict=True)}


def all_layers(model: Trained, x: Floats, y: Ints, defender: Defender) -> Streamed:
    """Return the gradients of rows by all weights; one pass takes a quarter of the memory."""
    outputs = sum(output_sizes(model.module, defender.shape))
    weights = sum(p.numel() for p in model.module.parameters())
    size = next(model.module.parameters()).element_size()
    # Outputs are kept, with their tangents and gradients; a row's own gradient is there twice.
    each = size * (4 * outputs + 2 * weights)
    chunk = int(defender.memory_gib * GIB / 4 // each)
    most = _CPU_ROWS if defender.device.type == "cpu" else defender.batch_size
    chunk = max(1, min(defender.batch_size, most, chunk))
    return Streamed(model.module, x, y, chunk)


def kept_if_small(gradients: Streamed, defender: Defender) -> RowGradients:
    """Return them in memory where they take at most half of what may be taken."""
    size = gradients.rows * gradients.width * gradients.dtype.itemsize
    return gradients.stored() if size <= defender.memory_gib * GIB / 2 else gradients


def last_layer(model: Trained, x: Floats, y: Ints, defender: Defender) -> LastLayer:
    """Return the gradients of rows by the last linear layer."""
    features, logits = defender.features(model, x), defender.logits(model, x)
    return LastLayer.of(features, logits, np.asarray(y), defender.device)
