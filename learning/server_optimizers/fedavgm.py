"""FedAvgM: momentum at the server (Hsu et al., arXiv 1909.06335)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from learning.server_optimizers.base import ServerOptimizer, StepState

if TYPE_CHECKING:
    from torch import Tensor


class FedAvgM(ServerOptimizer):
    """Server momentum (Hsu et al., arXiv 1909.06335): v = momentum v + update; w += lr v."""

    kind: Literal["fedavgm"] = "fedavgm"
    paper: ClassVar[str] = "Hsu et al., arXiv 1909.06335, 2019"

    lr: float = Field(1.0, gt=0, le=100, description="Server learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Share of the last step that is kept.")

    def step(self, update: Tensor, state: StepState | None) -> tuple[Tensor, StepState]:
        """Return the step; see `ServerOptimizer.step`."""
        mean = update if state is None else self.momentum * state["mean"] + update
        return self.lr * mean, {"mean": mean}
