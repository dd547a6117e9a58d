"""Training settings of a scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from learning.families.table import FAMILIES
from learning.frozen import Frozen
from learning.method import one_of
from learning.optimizers.base import Optimizer
from learning.optimizers.sgd import SGD
from learning.schedules.base import Schedule
from learning.schedules.constant import ConstantRate

if TYPE_CHECKING:
    AnyOptimizer = Optimizer
    AnySchedule = Schedule
else:
    AnyOptimizer = one_of(Optimizer, FAMILIES["optimizer"])
    AnySchedule = one_of(Schedule, FAMILIES["schedule"])


DEVICE: Final = r"^(auto|cpu|cuda(:\d+)?|mps)$"


class EarlyStopping(Frozen):
    """Stop when the monitored figure has not improved for `patience` epochs.

    S0 trains "until loss converges" and leaves these open; all defaults are `ours`.
    """

    monitor: Literal["validation_loss", "validation_accuracy", "train_loss"] = Field(
        "validation_loss", description="What must improve; validation needs validation_share."
    )
    patience: int = Field(5, ge=1, le=10_000, description="Epochs without improvement.")
    min_delta: float = Field(0.0, ge=0, description="Smaller changes are no improvement.")
    min_epochs: int = Field(1, ge=1, le=100_000, description="Epochs that are trained at least.")
    restore_best: bool = Field(True, description="End with the best epoch's weights, not the last.")


class AugmentImages(Frozen):
    """Random crop and flip of training batches, on the device."""

    crop_padding: int = Field(
        0, ge=0, le=32, description="Pixels of padding before a random crop to size; 0: no crop."
    )
    horizontal_flip: bool = Field(False, description="Mirror each image with probability 1/2.")


class TrainingSpec(Frozen):
    """How the defender trains (S0 A.2.2 and S1 3.2 give their own values in their scenarios)."""

    epochs: int = Field(30, ge=1, le=100_000, description="Passes over the rows, at most.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Rows of one step.")
    optimizer: AnyOptimizer = Field(SGD(), description="How a step is made.")
    schedule: AnySchedule = Field(
        ConstantRate(), description="How the learning rate changes over the epochs."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each target that is spread over all classes."
    )
    validation_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the rows that is kept back to watch the training."
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="When to stop before the last epoch; null: never."
    )
    augment: AugmentImages = Field(AugmentImages(), description="Random changes of each batch.")


class ComputeSpec(Frozen):
    """Where and how precisely to compute; none of it changes what the game is."""

    device: str = Field(
        "auto",
        pattern=DEVICE,
        examples=["auto", "cpu", "cuda", "cuda:0", "mps"],
        description="Where models are trained; auto: a GPU if there is one.",
    )
    bfloat16: bool = Field(False, description="Train in bfloat16 autocast.")
    channels_last: bool = Field(False, description="Store images channels last.")
    compile: bool = Field(False, description="Compile models with torch.compile.")
    together: bool | Literal["auto"] = Field(
        "auto", description="Train models of one game in one batched pass; auto: where it pays."
    )
    memory_gib: float = Field(
        4.0, gt=0, le=4096, description="Memory that models trained together may take, in GiB."
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; null: as many as torch takes by itself."
    )
