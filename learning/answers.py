"""The class that a model answers with, and what is none.

``argmax`` has an answer for everything: of logits that are all NaN it makes class 0. Whoever turns
logits into classes does it here, so that a model that computes nonsense is right about nothing and
leads to no target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from learning.pool import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

NO_CLASS: Final = -1  # labels and targets are 0..classes - 1: it equals none of them


def decided(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, int64 (...); NO_CLASS where one is NaN or infinite.

    Args:
        logits: Floats (..., classes).
    """
    classes = logits.argmax(-1)
    return torch.where(logits.isfinite().all(-1), classes, NO_CLASS)


def decided_rows(logits: Floats) -> Ints:
    """Return the class of each row of logits, (n, classes), as `decided` does, int64 (n,)."""
    # NumPy's argmax takes the first of equal ones; torch leaves it open.
    sound = np.isfinite(logits).all(axis=1)
    return np.where(sound, logits.argmax(axis=1), NO_CLASS).astype(np.int64)


def sound_rows(logits: Tensor) -> Tensor:
    """Return the logits, (..., classes), with all NaN where one is infinite.

    Softmax would hide an infinite one from whoever averages over models.
    """
    return torch.where(logits.isfinite().all(-1, keepdim=True), logits, torch.nan)
