"""MaxUp: of several random versions of each row, the one with the largest loss is trained on.

Gong, Ren, Ye, Liu, MaxUp: Lightweight Adversarial Training with Data Augmentation, CVPR 2021
(arXiv 2002.09024): min_w of the mean over rows of max_{j <= m} L(x_j', y, w), with x_1', ..., x_m'
random versions of x. As a defence against poison: S3 5.6 (Table 11), "we add random perturbations
to the training and the poisoned data ... and then minimize the worst case loss".

The worst version is picked by the model in evaluation mode without gradients, and only that one
goes through the training step: m cheap passes and one dear one, in place of m dear ones. Where
a model has no BatchNorm and no dropout, the step is that of the formula exactly; BatchNorm's
statistics are those of the versions that are trained on.

Numbers tagged `code` are those with which Geiping et al. 2021 play MaxUp as a defence; there it
begins after 5 epochs, here with the first.

Other hooks may stand beside it: those before it change the row first, those after it each version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from learning.shares import count_of
from strategies.base import TrainingHook
from strategies.checks import refuse_unused

if TYPE_CHECKING:
    from torch import Tensor


class MaxUp(TrainingHook):
    """Trains on the worst of m random versions of each row; labels stay."""

    kind: Literal["maxup"] = "maxup"
    paper: ClassVar[str] = "Gong et al., MaxUp, CVPR 2021; as a defence S3 5.6"

    versions: int = Field(
        4,
        ge=1,
        le=64,
        description="Random versions of each row (m); 1 is plain augmentation.",
        json_schema_extra={"origin": "code"},
    )
    change: Literal["gaussian", "cutout"] = Field(
        "gaussian",
        description="`gaussian`: noise is added (S3 says random perturbations, not which). "
        "`cutout`: a square at a random place is set to 0, as in Gong et al. on CIFAR.",
        json_schema_extra={"origin": "deduced"},
    )
    sigma: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Standard deviation of the noise, of inputs in [0, 1]; read with change: "
        "gaussian.",
        json_schema_extra={"origin": "ours"},
    )
    side: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Side of the square, as a share of height and width (16 of 32 pixels; halves "
        "up); read with change: cutout.",
        json_schema_extra={"origin": "code"},
    )

    @model_validator(mode="after")
    def _check_unused(self) -> MaxUp:
        refuse_unused(self, "change", {"gaussian": ("sigma",), "cutout": ("side",)})
        return self

    @property
    def tries(self) -> int:
        """Versions of each row."""
        return self.versions

    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return one random version of the batch; see `BatchHook.mix`."""
        if self.change == "cutout":
            return x * ~self._square(x, generator), targets
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float32)
        return (x + self.sigma * noise.to(x.device, x.dtype)).clamp(0, 1), targets

    def _square(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return where the squares are, bool (n, 1, H, W); their centres may be anywhere."""
        inside = []
        for length in x.shape[2:]:
            side = count_of(self.side, length)
            centre = torch.randint(length, (len(x), 1), generator=generator)
            first = centre - side // 2
            at = torch.arange(length)
            inside.append((at >= first) & (at < first + side))
        rows, columns = inside
        return (rows[:, None, :, None] & columns[:, None, None, :]).to(x.device)
