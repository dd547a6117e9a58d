"""FedAdam: an adaptive server step (Reddi et al., Adaptive Federated Optimization, ICLR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from learning.server_optimizers.base import ServerOptimizer, StepState
from learning.server_optimizers.moments import adaptive_step

if TYPE_CHECKING:
    from torch import Tensor


class FedAdam(ServerOptimizer):
    """Adaptive server steps (Reddi et al., ICLR 2021, algorithm 2, without bias correction)."""

    kind: Literal["fedadam"] = "fedadam"
    paper: ClassVar[str] = "Reddi et al., ICLR 2021, algorithm 2"

    lr: float = Field(0.01, gt=0, le=100, description="Server learning rate.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the mean.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Decay of the second moment.")
    tau: float = Field(1e-3, gt=0, le=1, description="Added to the root of the second moment.")

    def step(self, update: Tensor, state: StepState | None) -> tuple[Tensor, StepState]:
        """Return the step; see `ServerOptimizer.step`.

        The second moment starts at tau squared, as in the paper.
        """

        def squared(square: Tensor, new: Tensor) -> Tensor:
            return self.beta2 * square + (1 - self.beta2) * new

        return adaptive_step(update, state, squared, lr=self.lr, beta1=self.beta1, tau=self.tau)
