"""Random crop and flip of training batches, drawn for each row id and done on the device."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learning.pool import Ints
from learning.training.batches.order import row_keys
from learning.training.spec import AugmentImages


def draw_changes(spec: AugmentImages, seed: int, purpose: str, epoch: int, ids: Ints) -> Ints:
    """Return each row's shift down, shift right and flip of one epoch, int64 (n, 3).

    Drawn by id, so that a row is changed alike whatever else is in the pool.
    """
    sides = 2 * spec.crop_padding + 1
    limits = (sides, sides, 2 if spec.horizontal_flip else 1)
    columns = [
        row_keys(seed, f"augment/{axis}/{purpose}", epoch, ids) * limit
        for axis, limit in enumerate(limits)
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def change(x: Tensor, changes: Tensor, spec: AugmentImages) -> Tensor:
    """Return cropped and flipped inputs.

    Args:
        x: Inputs (n, C, H, W).
        changes: As drawn, int64 (n, 3), on the same device.
        spec: Padding (with zeros) around the image before the crop.
    """
    n, c, h, w = x.shape
    pad = spec.crop_padding
    rows = changes[:, 0:1] + torch.arange(h, device=x.device)
    ahead = torch.arange(w, device=x.device).expand(n, w)
    columns = changes[:, 1:2] + torch.where(changes[:, 2:3] > 0, w - 1 - ahead, ahead)
    which = torch.arange(n, device=x.device)[:, None, None, None]
    channels = torch.arange(c, device=x.device)[None, :, None, None]
    padded = F.pad(x, (pad, pad, pad, pad))
    return padded[which, channels, rows[:, None, :, None], columns[:, None, None, :]]
