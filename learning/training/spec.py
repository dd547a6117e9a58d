"""Training settings of a scenario."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Spec(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class SGD(_Spec):
    """Stochastic gradient descent as in `torch.optim.SGD`."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.05, gt=0, le=100)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0, le=10)


class Adam(_Spec):
    """Adam as in `torch.optim.Adam` (weight decay as an L2 term)."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(0.001, gt=0, le=100)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0, le=10)


class Constant(_Spec):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"


class Milestones(_Spec):
    """The learning rate is multiplied by `factor` at each milestone (in epochs)."""

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[int, ...] = ()
    factor: float = Field(0.1, gt=0, le=1)


class Cosine(_Spec):
    """Cosine from the full rate to `final` times it over all epochs, after a linear warm-up."""

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: int = Field(0, ge=0, le=10_000)
    final: float = Field(0.0, ge=0, le=1)


class EarlyStopping(_Spec):
    """Stop when the monitored figure has not improved for `patience` epochs.

    S0 trains "until loss converges" and leaves these open; all defaults are `ours`.
    """

    monitor: Literal["validation_loss", "validation_accuracy", "train_loss"] = "validation_loss"
    patience: int = Field(5, ge=1, le=10_000)
    min_delta: float = Field(0.0, ge=0)
    min_epochs: int = Field(1, ge=1, le=100_000)
    restore_best: bool = True


class AugmentImages(_Spec):
    """Random crop and flip of training batches, on the device."""

    crop_padding: int = Field(0, ge=0, le=32)
    horizontal_flip: bool = False


class TrainingSpec(_Spec):
    """How the defender trains (S0 A.2.2 and S1 3.2 give their own values in their scenarios)."""

    epochs: int = Field(30, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1, le=65_536)
    optimizer: Annotated[SGD | Adam, Field(discriminator="kind")] = SGD()
    schedule: Annotated[Constant | Milestones | Cosine, Field(discriminator="kind")] = Constant()
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    validation_share: float = Field(0.0, ge=0, lt=1)
    early_stopping: EarlyStopping | None = None
    augment: AugmentImages = AugmentImages()


class ComputeSpec(_Spec):
    """Where and how precisely to compute; none of it changes what the game is."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    bfloat16: bool = False
    channels_last: bool = False
    compile: bool = False
    together: bool | Literal["auto"] = "auto"
    memory_gib: float = Field(4.0, gt=0, le=4096)
    threads: int | None = Field(None, ge=1, le=1024)
