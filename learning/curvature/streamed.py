"""Gradients of rows by all weights of a model, computed anew for each product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from learning.curvature.losses import odds_against, row_odds
from learning.curvature.per_row import Measured, Stored
from learning.curvature.vectors import Weights, flat, unflat, weights_of
from learning.pool import Floats, Ints
from learning.training.device import exact_convolutions

if TYPE_CHECKING:
    from torch import Tensor, nn

# Rows of a pass that are kept: their parts stay in a core's cache (measured: more are slower).
_CPU_KEPT = 64


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
