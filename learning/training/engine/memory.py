"""How many models fit into one stacked training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from learning.training.spec import TrainingSpec

if TYPE_CHECKING:
    from torch import nn


# The C library of Linux returns a freed block of more than 32 MiB to the kernel at once, and every
# later use of one starts with fresh, zeroed pages: measured, half the time of a stacked step.
KEPT_BLOCK = 31 * 2**20
# The largest tensor of a stacked step on a CPU: well below that limit, and within common caches.
LARGEST_TENSOR = 16 * 2**20
# Steered steps keep the start and a mask, and have float64 temporaries of twice the size.
_STEERED = 8


@dataclass(frozen=True)
class Footprint:
    """What one model takes in a stacked training, in bytes.

    Attributes:
        total: Weights, gradients, optimiser state, two snapshots, what steered steps need, and for
            each row of a batch the outputs of all layers three times (kept, their gradient, a
            temporary).
        largest: The largest output of a layer for a whole batch.
    """

    total: int
    largest: int

    @classmethod
    def of(
        cls,
        module: nn.Module,
        shape: tuple[int, int, int],
        spec: TrainingSpec,
        *,
        steered: bool = False,
        averaged: int = 0,
    ) -> Footprint:
        """Measure `module` on one black input of `shape` (C, H, W).

        Args:
            module: One of the models.
            shape: Of an input.
            spec: How they are trained.
            steered: Whether their steps are.
            averaged: Over how many epochs a mean of the weights is taken: as many snapshots more.
        """
        size = next(module.parameters()).element_size()
        rows = spec.batch_size + 1
        outputs = output_sizes(module, shape)
        copies = 4 + spec.optimizer.kept + averaged
        copies += _STEERED if steered else 0
        weights = sum(p.numel() for p in module.parameters())
        return cls(
            total=size * (copies * weights + 3 * rows * sum(outputs)),
            largest=size * rows * max(outputs),
        )

    def fit(self, memory_gib: float, device: torch.device) -> int:
        """Return how many models to train as one, at least 1."""
        by_memory = int(memory_gib * 2**30) // self.total
        by_tensor = LARGEST_TENSOR // self.largest if device.type == "cpu" else by_memory
        return max(1, min(by_memory, by_tensor))


def keep_freed_memory() -> None:
    """Make the C library keep freed blocks of up to 31 MiB for the next step.

    glibc raises its limit to the size of the largest block that was ever freed; elsewhere this
    does nothing.
    """
    torch.empty(KEPT_BLOCK, dtype=torch.uint8)  # freed at once


def output_sizes(module: nn.Module, shape: tuple[int, int, int]) -> list[int]:
    """Return how many numbers each layer gives out for one input of `shape` (C, H, W)."""
    sizes: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: sizes.append(out.numel()))
        for layer in module.modules()
        if not list(layer.children())
    ]
    first = next(module.parameters())
    with torch.no_grad():
        module.eval()(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))
    for hook in hooks:
        hook.remove()
    return sizes
