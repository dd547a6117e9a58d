"""The learning rate falls at given epochs, as in `torch.optim.lr_scheduler.MultiStepLR`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from learning.schedules.base import Schedule


class Milestones(Schedule):
    """The learning rate is multiplied by `factor` at each milestone (in epochs)."""

    kind: Literal["milestones"] = "milestones"

    milestones: tuple[int, ...] = Field((), description="Epochs after which it is multiplied.")
    factor: float = Field(0.1, gt=0, le=1, description="What it is multiplied by.")

    def rate(self, epoch: int, epochs: int) -> float:
        """Return the factor of an epoch; see `Schedule.rate`."""
        return float(self.factor ** sum(epoch >= m for m in self.milestones))
