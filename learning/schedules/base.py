"""What a schedule is."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from learning.method import Method


class Schedule(Method):
    """How the learning rate changes over the epochs.

    Attributes:
        constant: Whether it does not: trainings of other lengths then have the same rates.
    """

    constant: ClassVar[bool] = False

    @abstractmethod
    def rate(self, epoch: int, epochs: int) -> float:
        """Return what the full learning rate is multiplied by.

        Args:
            epoch: Epoch, from 0.
            epochs: Length of the training; it can be shorter than the scenario's.
        """
