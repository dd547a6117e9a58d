"""The adaptive step that FedAdam and FedYogi share (Reddi et al., ICLR 2021, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from learning.server_optimizers.base import StepState


def adaptive_step(
    update: Tensor,
    state: StepState | None,
    squared: Callable[[Tensor, Tensor], Tensor],
    *,
    lr: float,
    beta1: float,
    tau: float,
) -> tuple[Tensor, StepState]:
    """Return the step and the moments after it; the second one starts at tau squared.

    Args:
        update: The aggregate, (d,).
        state: ``mean`` and ``square`` of the step before; None at the first.
        squared: Gives the second moment from the one before and the squared update.
        lr: Server learning rate.
        beta1: Decay of the mean.
        tau: Added to the root of the second moment.
    """
    if state is None:
        first = update.new_full(update.shape, tau**2)
        state = {"mean": update.new_zeros(update.shape), "square": first}
    mean = beta1 * state["mean"] + (1 - beta1) * update
    square = squared(state["square"], update**2)
    return lr * mean / (square.sqrt() + tau), {"mean": mean, "square": square}
