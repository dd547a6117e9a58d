"""Training settings of a scenario."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from learning.frozen import Frozen


class SGD(Frozen):
    """Stochastic gradient descent as in `torch.optim.SGD`."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.05, gt=0, le=100, description="Learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; 0: none.")
    nesterov: bool = Field(False, description="Nesterov's variant of momentum.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Factor of the L2 term.")


class Adam(Frozen):
    """Adam as in `torch.optim.Adam` (weight decay as an L2 term)."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(0.001, gt=0, le=100, description="Learning rate.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the mean of gradients.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the mean of squared gradients.")
    eps: float = Field(1e-8, gt=0, le=1, description="Added to the denominator.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Factor of the L2 term.")


class ConstantRate(Frozen):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"


class Milestones(Frozen):
    """The learning rate is multiplied by `factor` at each milestone (in epochs)."""

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[int, ...] = Field((), description="Epochs after which it is multiplied.")
    factor: float = Field(0.1, gt=0, le=1, description="What it is multiplied by.")


class Cosine(Frozen):
    """Cosine from the full rate to `final` times it over all epochs, after a linear warm-up."""

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: int = Field(0, ge=0, le=10_000, description="Epochs of linear warm-up.")
    final: float = Field(0.0, ge=0, le=1, description="Last learning rate, relative to the first.")


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
    optimizer: Annotated[SGD | Adam, Field(discriminator="kind")] = Field(
        SGD(), description="How a step is made."
    )
    schedule: Annotated[ConstantRate | Milestones | Cosine, Field(discriminator="kind")] = Field(
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
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
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
