"""The ResNet-9 of S0 (Table 2: 7,756,554 parameters at 3x32x32 and 10 classes).

The paper gives the count only. The widespread nine-layer residual network of the DAWNBench
contest (convolutions with bias and BatchNorm, 64-128-256-512 channels, residual blocks at 128 and
512) has 6,575,370; one more residual block, at 256 channels, gives the paper's count (deduced).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from learning.models.base import Architecture
from learning.models.parts.sizes import check_size, too_small

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier

SMALLEST = 8  # pixels


class ResNet9(Architecture):
    """Nine weighted layers of the usual kind and a third residual block."""

    paper: ClassVar[str] = "S0, Table 2 and A.2.2"
    kind: Literal["resnet9"] = "resnet9"

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Refuse what would be pooled down to nothing; see `Method.misfit`."""
        return too_small("resnet9", shape, SMALLEST)

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model.

        Raises:
            ValueError: If the image is smaller than 8x8.
        """
        from learning.models.parts.modules import Classifier, Residual, plain_block

        check_size("resnet9", shape, SMALLEST)
        body = torch.nn.Sequential(*plain_block(shape[0], 64))
        for inputs, outputs in ((64, 128), (128, 256), (256, 512)):
            body.extend([*plain_block(inputs, outputs), torch.nn.MaxPool2d(2), Residual(outputs)])
        body.extend([torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()])
        return Classifier(body, torch.nn.Linear(512, classes))
