"""What a server optimiser is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from learning.method import Method

if TYPE_CHECKING:
    from torch import Tensor

# What it keeps from round to round, by name; it is part of checkpoints.
StepState = Mapping[str, "Tensor"]


class ServerOptimizer(Method):
    """Turns the aggregate of a round into the step that is added to the model."""

    @abstractmethod
    def step(self, update: Tensor, state: StepState | None) -> tuple[Tensor, StepState]:
        """Return the step to add to the model, and the new state.

        Args:
            update: The aggregate, (d,); never written to.
            state: What this method returned at the last step; None before the first. Never
                written to.

        Returns:
            The step, (d,), in the aggregate's dtype or a finer one; and tensors by name.
        """
