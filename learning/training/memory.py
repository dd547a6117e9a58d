"""How much memory the training of one model takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from learning.training.spec import Adam, TrainingSpec


def bytes_of_one(
    module: nn.Module, shape: tuple[int, int, int], spec: TrainingSpec, dtype: torch.dtype
) -> int:
    """Return an upper estimate of one model's share of a stacked training, in bytes.

    Counts weights, gradients, optimiser state and two snapshots, and for each row of a batch the
    outputs of all layers three times (kept for the backward pass, its gradient, a temporary).
    """
    parameters = sum(p.numel() for p in module.parameters())
    copies = 6 if isinstance(spec.optimizer, Adam) else 5
    rows = spec.batch_size + 1
    numbers = copies * parameters + 3 * rows * _numbers_of_a_row(module, shape)
    return numbers * torch.empty((), dtype=dtype).element_size()


def _numbers_of_a_row(module: nn.Module, shape: tuple[int, int, int]) -> int:
    counts: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: counts.append(out.numel()))
        for layer in module.modules()
        if not list(layer.children())
    ]
    first = next(module.parameters())
    x: Tensor = torch.zeros(1, *shape, device=first.device, dtype=first.dtype)
    with torch.no_grad():
        module.eval()(x)
    for hook in hooks:
        hook.remove()
    return x.numel() + sum(counts)
