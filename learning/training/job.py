"""What is asked of the training engine, and what comes back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from learning.method import Method
from learning.pool import Pool

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class BatchHook(Method):
    """Changes each training batch (CutMix, MixUp, ...)."""

    @property
    def tries(self) -> int:
        """How often a batch is mixed, with new draws each time (MaxUp).

        Of the versions of a row that come of it, the one with the largest loss under the weights
        before the step is trained on.
        """
        return 1

    @abstractmethod
    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the batch to train on.

        Args:
            x: Inputs, float (n, C, H, W), on the training device.
            targets: Soft labels, float (n, classes), each row summing to 1.
            generator: CPU generator.
        """


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model.

    Attributes:
        module: In evaluation mode, on the training device, gradients off.
        curve: For each epoch the mean training loss, training accuracy, learning rate and, where
            asked for, validation loss and accuracy. A training of `Training.steps` has one entry:
            means over the rows that it saw, its last learning rate, validation at its end.
        rows: Number of rows trained on.
        epochs: Epochs trained (early stopping counted); of a training of steps those it began.
        seconds: Wall time; models trained together share theirs equally.
        validated: Rows that were held out and that the weights kept give their label, and how many
            were held out; None without validation.
        diverged: The epoch in which it diverged, from 1 (the span of a training of steps); 0 if it
            did not.
        averaged: The model with the mean of the weights after its last `Recipe.averaged` epochs,
            of fewer where it has not trained so many, as `module` is otherwise. Where early
            stopping restores the best epoch these are the last epochs all the same. None where
            nobody asks for it.
    """

    module: nn.Module
    curve: tuple[dict[str, float], ...]
    rows: int
    epochs: int
    seconds: float
    validated: tuple[int, int] | None = None
    diverged: int = 0
    averaged: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class UpdateConstraint:
    """Changes of every step of a training, seen from its starting weights w0.

    The gradient g of the loss becomes ``gain * g + pull * (w - w0)`` on the `free` coordinates and
    0 on the others, before the optimiser (its momentum and weight decay included) sees it; after a
    step, or after an epoch, the weights are drawn back into the ball around w0. Coordinates that
    are not free stay at w0 to the bit, whatever weight decay would do to them. Buffers, such as
    BatchNorm's running statistics, are no weights: they change as in any training.

    Attributes:
        gain: Factor of the loss's gradient (constrain-and-scale's alpha).
        pull: Factor of the way from the start, >= 0: FedProx's mu (Li et al., MLSys 2020, eq. 2).
        free: Coordinates that may move, bool (d,), in the order of
            `learning.weights.WeightLayout.flat`, on the CPU; None for all.
        radius: Largest L2 distance from the start over all weights; None for no bound.
        project: Whether the weights are drawn back after each step or after each epoch.
    """

    gain: float = 1.0
    pull: float = 0.0
    free: Tensor | None = None
    radius: float | None = None
    project: Literal["step", "epoch"] = "step"


@dataclass(frozen=True, eq=False)
class Training:
    """One training that a defence asks for.

    Two requests for the same rows, hooks, start and length are one training.

    Attributes:
        pool: Rows to train on.
        hooks: Applied to each batch, in order.
        start: Continue from this model instead of the game's common initial weights.
        epochs: Train this long instead of the scenario's `training.epochs`.
        purpose: Separates the batch orders of trainings that must differ; "" for the common one.
        steps: Train for this many steps instead of epochs (`epochs` has no meaning then); the rows
            are visited again, in a new order, where an epoch ends before. The learning rate is
            that of the epoch a step is in, in a schedule of as many epochs as are begun. One that
            diverges ends with the weights it started from. Not with early stopping.
        rate: Factor of the scenario's learning rate, > 0.
        steering: Changes of every step; None for plain training.
    """

    pool: Pool
    hooks: tuple[BatchHook, ...] = ()
    start: Trained | None = None
    epochs: int | None = None
    purpose: str = field(default="")
    steps: int | None = None
    rate: float = 1.0
    steering: UpdateConstraint | None = None


T = TypeVar("T")

# A defence that needs models is a generator: it yields the trainings it wants and is sent the
# models, in order. So the trainings of many defences and control games can be done together.
TrainingRequests = Generator[list[Training], list[Trained], T]
