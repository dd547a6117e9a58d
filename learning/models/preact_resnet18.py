"""Pre-activation ResNet-18 for small images (11,171,146 parameters at 3 channels, 10 classes).

K. He, X. Zhang, S. Ren, J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016; the
form that S2 trains on CIFAR-10: 3x3 stem, 64-128-256-512 channels, two blocks each, and no
normalisation after the last block.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from learning.models.base import Architecture
from learning.models.parts import Classifier


class _PreActBlock(nn.Module):
    """BatchNorm and ReLU come before each convolution; the shortcut leaves after the first."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x).relu()
        around: Tensor = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.norm2(self.conv1(active)).relu())
        return out + around


class PreActResNet18(Architecture):
    """ResNet-18 with pre-activation, CIFAR form."""

    paper: ClassVar[str] = "He et al., ECCV 2016; S2, section 5"
    kind: Literal["preact_resnet18"] = "preact_resnet18"

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model, for images of any size."""
        body = nn.Sequential(nn.Conv2d(shape[0], 64, 3, padding=1, bias=False))
        for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            body.extend([_PreActBlock(inputs, outputs, stride), _PreActBlock(outputs, outputs, 1)])
        body.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        return Classifier(body, nn.Linear(512, classes))
