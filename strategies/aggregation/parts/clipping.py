"""What the rules share that clip updates or add noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from strategies.aggregation.base import Context
from strategies.aggregation.updates import Updates

if TYPE_CHECKING:
    from torch import Tensor


def clip_factors(lengths: Tensor, bound: float) -> Tensor:
    """Return what each length has to be multiplied with to be at most `bound`, in [0, 1]."""
    return torch.where(lengths > bound, bound / lengths.clamp(min=bound or 1), 1.0)


def median_of(lengths: Tensor) -> float:
    """Return the median; of an even number of values the mean of the two in the middle."""
    return float(np.median(lengths.numpy()))


def gaussian(updates: Updates, deviation: float, purpose: str, context: Context) -> Tensor:
    """Return Gaussian noise for one update, (d,), the same on every device."""
    generator = context.generator(purpose, updates.round)
    draws = torch.randn(updates.width, generator=generator, dtype=updates.matrix.dtype)
    return draws.mul_(deviation).to(updates.matrix.device)
