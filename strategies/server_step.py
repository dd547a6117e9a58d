"""What the server does with an aggregate: FedAvg, FedAvgM, FedAdam, FedYogi.

Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2 (no bias correction; the
second moment starts at tau squared, as there); Hsu et al., arXiv 1909.06335, for momentum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenarios.federation import FedAdam, FedAvg, FedAvgM, FedYogi


@dataclass(frozen=True, eq=False)
class StepState:
    """What a server optimiser keeps.

    Attributes:
        mean: Momentum or first moment, (d,).
        square: Second moment, (d,); empty where there is none.
    """

    mean: Tensor
    square: Tensor


def server_step(
    optimizer: object, update: Tensor, state: StepState | None
) -> tuple[Tensor, StepState]:
    """Return the step to add to the model, and the new state.

    Args:
        optimizer: `FedAvg`, `FedAvgM`, `FedAdam` or `FedYogi`.
        update: The aggregate, (d,).
        state: Of the last step; None before the first.

    Raises:
        TypeError: If the optimiser is none of these.
    """
    none = torch.empty(0)
    if isinstance(optimizer, FedAvg):
        return optimizer.lr * update, StepState(none, none)
    if isinstance(optimizer, FedAvgM):
        mean = update if state is None else optimizer.momentum * state.mean + update
        return optimizer.lr * mean, StepState(mean, none)
    if not isinstance(optimizer, FedAdam | FedYogi):
        raise TypeError(f"expected a server optimiser, got {type(optimizer).__name__}")
    if state is None:
        first = torch.full_like(update, optimizer.tau**2)
        state = StepState(torch.zeros_like(update), first)
    mean = optimizer.beta1 * state.mean + (1 - optimizer.beta1) * update
    squared, rate = update**2, 1 - optimizer.beta2
    if isinstance(optimizer, FedAdam):
        second = optimizer.beta2 * state.square + rate * squared
    else:
        second = state.square - rate * squared * torch.sign(state.square - squared)
    return optimizer.lr * mean / (second.sqrt() + optimizer.tau), StepState(mean, second)
