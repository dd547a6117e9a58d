"""MixUp: each image becomes a weighted mean of two, and so do the labels.

Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018. As a defence against
backdoors: Borgnia et al. 2021, which S0 A.2.6 and S1 4.2 cite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import TrainingHook
from strategies.hooks.mixing import mix_with_random_partners

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class MixUp(TrainingHook):
    """Blends the images of a batch; one lambda ~ Beta(alpha, alpha) for each batch."""

    kind: Literal["mixup"] = "mixup"
    paper: ClassVar[str] = "Zhang et al., mixup, ICLR 2018; as a defence Borgnia et al. 2021"

    alpha: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Both parameters of the Beta distribution of lambda (1 on CIFAR-10).",
        json_schema_extra={"origin": "code"},
    )
    probability: float = Field(
        1.0,
        ge=0,
        le=1,
        description="How likely a batch is mixed.",
        json_schema_extra={"origin": "code"},
    )

    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the batch to train on; see `BatchHook.mix`."""
        from torchvision.transforms import v2  # slow to import, and listing methods needs none

        transform = v2.MixUp(alpha=self.alpha)
        return mix_with_random_partners(transform, self.probability, x, targets, generator)
