"""The informed flip: which rows to relabel, and as what, by the answers of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from learning.pool import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor, nn

_CHUNK = 1024  # inputs asked at once


def easiest(model: nn.Module, x: Floats, y: Ints, count: int) -> tuple[Ints, Ints]:
    """Return the rows whose labels a model is surest of, and the labels that it trusts least.

    Args:
        model: Gives logits (n, classes) of at least two classes, all finite.
        x: Inputs, float32 (n, C, H, W).
        y: Their labels, int64 (n,).
        count: How many rows, 0..n.

    Returns:
        Positions of the rows with the smallest cross-entropy, the first of equals, ascending, int64
        (count,); and of each the least likely label other than its own, int64 (count,).
    """
    device = next(model.parameters(), torch.empty(0)).device
    with torch.no_grad():
        parts = [model(some.to(device)).cpu() for some in torch.split(torch.tensor(x), _CHUNK)]
    logits = torch.cat(parts).double()
    own = torch.tensor(y)[:, None]
    odds = _log_odds(logits, own)
    rows = np.sort(np.argsort(-odds.numpy(), kind="stable")[:count]).astype(np.int64)
    least = logits.scatter(1, own, torch.inf).argmin(1).numpy()
    return rows, np.asarray(least[rows], dtype=np.int64)


def _log_odds(logits: Tensor, own: Tensor) -> Tensor:
    """Return log p / (1 - p) of the labels: falls as the loss grows, and is never rounded away."""
    others = logits.scatter(1, own, -torch.inf).logsumexp(1)
    return logits.gather(1, own)[:, 0] - others
