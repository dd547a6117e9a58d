"""What CutMix and MixUp share: torchvision's transforms, made to draw from a given generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[["Tensor", "Tensor"], "tuple[Tensor, Tensor]"]


def mix_with_random_partners(
    transform: Transform,
    probability: float,
    x: Tensor,
    targets: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Mix each row with a partner drawn at random, or (with 1 - probability) leave the batch.

    Args:
        transform: A transform of `torchvision.transforms.v2` that pairs neighbours in the batch
            and draws from torch's global CPU generator, which is left as it was.
        probability: How likely a batch is mixed.
        x: Inputs (n, C, H, W).
        targets: Soft labels (n, classes).
        generator: CPU generator of all draws.

    Returns:
        New inputs and soft labels, row by row in the order given.
    """
    if torch.rand((), generator=generator).item() >= probability:
        return x, targets
    order = torch.randperm(len(x), generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    shuffled = order.to(x.device)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed accelerators too and not put them back.
        torch.default_generator.manual_seed(seed)
        mixed_x, mixed_targets = transform(x[shuffled], targets[shuffled])
    back = torch.argsort(order).to(x.device)
    return mixed_x[back], mixed_targets[back]
