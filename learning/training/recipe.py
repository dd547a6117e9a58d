"""How a game's models are trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from learning.models.base import Architecture
from learning.training.device import usable_cores
from learning.training.job import Training
from learning.training.length import Length
from learning.training.spec import ComputeSpec, TrainingSpec


@dataclass(frozen=True)
class Recipe:
    """How a game's models are trained.

    Attributes:
        architecture: The model.
        shape: Input shape (C, H, W).
        classes: Number of classes.
        training: Training settings.
        compute: Where and how precisely.
        seed: The game's seed; gives the common initial weights and the batch orders.
        averaged: Over how many of the last epochs the mean of a model's weights is taken, beside
            the model itself, which stays what it is to the bit; 0: none.
    """

    architecture: Architecture
    shape: tuple[int, int, int]
    classes: int
    training: TrainingSpec
    compute: ComputeSpec
    seed: int
    averaged: int = 0

    @property
    def stacks(self) -> bool:
        """Whether models are trained as one, a single one included."""
        return self.architecture.batchable and self.compute.together is not False

    def length(self, request: Training) -> Length:
        """Return how long a training is."""
        epochs = self.training.epochs if request.epochs is None else request.epochs
        return Length(epochs) if request.steps is None else Length(1, request.steps)

    def cores(self, device: torch.device) -> int:
        """Return how many groups of models run at a time on `device`."""
        if device.type != "cpu" or not self.architecture.batchable:
            return 1
        return self.compute.threads or usable_cores()
