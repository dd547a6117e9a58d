"""Buffers that a hostile agent hands over: each possible by itself, and ruinous for a model.

They pass every check of one state by itself (finite, in range, no variance and no counter below 0),
so that only a comparison with other agents' buffers tells them apart.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch

from learning.weights import State

if TYPE_CHECKING:
    from torch import Tensor

# Far within the range that admission leaves to a model's entries.
LARGEST = 1e11
# What counters are set to: more batches than any game has.
BATCHES = 10**9


def hostile_buffers(
    buffers: State,
    variances: Collection[str],
    counters: Collection[str],
    shift: float,
    factor: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return what a hostile agent makes of its buffers.

    Args:
        buffers: As it has trained them, by name, any shapes and dtypes, on the CPU.
        variances: Which of them are variances; each is multiplied by `factor`.
        counters: Which of them count batches; each becomes `BATCHES`.
        shift: Every other floating-point entry v is moved by ``shift * max(1, |v|)``, up or down at
            random.
        factor: See `variances`; >= 0.
        generator: Draws the signs.

    Returns:
        The same names, shapes and dtypes. No entry is beyond `LARGEST`; whole numbers that count
        nothing stay as they are.
    """
    out = {name: value.clone() for name, value in buffers.items()}
    for name, value in buffers.items():
        if name in counters:
            out[name] = torch.full_like(value, BATCHES)
        elif name in variances:
            out[name] = (value.double() * factor).clamp(0, LARGEST).to(value.dtype)
        elif value.is_floating_point():
            signs = torch.randint(0, 2, value.shape, generator=generator, dtype=torch.float64)
            moved = value.double() + (2 * signs - 1) * shift * value.double().abs().clamp(min=1)
            out[name] = moved.clamp(-LARGEST, LARGEST).to(value.dtype)
    return out
