"""ResNet-32 for small images (464,154 parameters at 3 channels and 10 classes).

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
section 4.2: 6n + 2 layers with n = 5, shortcuts without parameters (option A), He initialisation.
One of the two networks of S2.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from learning.models.base import Architecture
from learning.models.parts import Classifier


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        around = x[:, :, :: self.stride, :: self.stride]
        half = self.added // 2
        return (out + F.pad(around, (0, 0, 0, 0, half, self.added - half))).relu()


class ResNet32(Architecture):
    """Three stages of five blocks with 16, 32 and 64 channels."""

    paper: ClassVar[str] = "He et al., CVPR 2016, section 4.2; S2, section 5"
    kind: Literal["resnet32"] = "resnet32"

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model, for images of any size."""
        body = nn.Sequential(
            nn.Conv2d(shape[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            body.append(_BasicBlock(inputs, outputs, stride))
            body.extend([_BasicBlock(outputs, outputs, 1) for _ in range(4)])
        body.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        model = Classifier(body, nn.Linear(64, classes))
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        return model
