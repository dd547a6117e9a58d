"""FedAvg: the aggregate is the step (McMahan et al., AISTATS 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from learning.server_optimizers.base import ServerOptimizer, StepState

if TYPE_CHECKING:
    from torch import Tensor


class FedAvg(ServerOptimizer):
    """The aggregate is added to the model (McMahan et al., AISTATS 2017)."""

    kind: Literal["fedavg"] = "fedavg"
    paper: ClassVar[str] = "McMahan et al., AISTATS 2017"

    lr: float = Field(1.0, gt=0, le=100, description="Server learning rate.")

    def step(self, update: Tensor, state: StepState | None) -> tuple[Tensor, StepState]:
        """Return the step; see `ServerOptimizer.step`."""
        return self.lr * update, {}
