"""Early stopping, for each model on its own."""

from __future__ import annotations

from math import inf

from learning.training.spec import EarlyStopping


class Stopper:
    """Watches one model's monitored figure.

    Attributes:
        best_epoch: Epochs trained (from 1) at the best figure so far; 0 before the first.
    """

    def __init__(self, spec: EarlyStopping) -> None:
        self._spec = spec
        self._best = inf
        self.best_epoch = 0

    def improved(self, epochs_done: int, figures: dict[str, float]) -> bool:
        """Take in an epoch's figures; return whether they are the best so far.

        An improvement is a fall of the loss (a rise of the accuracy) by more than `min_delta`.
        """
        figure = figures[self._spec.monitor]
        cost = -figure if self._spec.monitor.endswith("accuracy") else figure
        if cost < self._best - self._spec.min_delta:
            self._best, self.best_epoch = cost, epochs_done
            return True
        return False

    def exhausted(self, epochs_done: int) -> bool:
        """Return whether to stop: `patience` epochs without an improvement."""
        spec = self._spec
        return epochs_done >= spec.min_epochs and epochs_done - self.best_epoch >= spec.patience
