"""CutMix: a rectangle of each image is replaced by that of another, the labels by area.

Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features,
ICCV 2019. As a defence against backdoors: Borgnia et al. 2021, S1 4.2, S0 A.2.6. The papers that
defend leave `alpha` and `probability` open; the published code of Yun et al. has alpha 1 and, on
CIFAR, probability 0.5, and so has that of Geiping et al. 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import TrainingHook
from strategies.hooks.mixing import mix_with_random_partners

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CutMix(TrainingHook):
    """Cuts and pastes between the images of a batch; lambda is the kept share of the pixels."""

    kind: Literal["cutmix"] = "cutmix"
    paper: ClassVar[str] = "Yun et al., CutMix, ICCV 2019; as a defence Borgnia et al. 2021, S1 4.2"

    alpha: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Both parameters of the Beta distribution of lambda.",
        json_schema_extra={"origin": "code"},
    )
    probability: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How likely a batch is mixed.",
        json_schema_extra={"origin": "code"},
    )

    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the batch to train on; see `BatchHook.mix`."""
        from torchvision.transforms import v2  # slow to import, and listing methods needs none

        transform = v2.CutMix(alpha=self.alpha)
        return mix_with_random_partners(transform, self.probability, x, targets, generator)
