"""The ResNet-9 of S0 (Table 2: 7,756,554 parameters at 3x32x32 and 10 classes).

The paper gives the count only. The widespread nine-layer residual network of the DAWNBench
contest (convolutions with bias and BatchNorm, 64-128-256-512 channels, residual blocks at 128 and
512) has 6,575,370; one more residual block, at 256 channels, gives the paper's count (deduced).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from learning.models.base import Architecture
from learning.models.parts import Classifier, check_size, too_small

SMALLEST = 8  # pixels


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_block(channels, channels), *_block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


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
        check_size("resnet9", shape, SMALLEST)
        body = nn.Sequential(*_block(shape[0], 64))
        for inputs, outputs in ((64, 128), (128, 256), (256, 512)):
            body.extend([*_block(inputs, outputs), nn.MaxPool2d(2), _Residual(outputs)])
        body.extend([nn.AdaptiveMaxPool2d(1), nn.Flatten()])
        return Classifier(body, nn.Linear(512, classes))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
