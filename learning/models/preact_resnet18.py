"""Pre-activation ResNet-18 for small images (11,171,146 parameters at 3 channels, 10 classes).

K. He, X. Zhang, S. Ren, J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016; the
form that S2 trains on CIFAR-10: 3x3 stem, 64-128-256-512 channels, two blocks each, and no
normalisation after the last block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from learning.models.base import Architecture

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier


class PreActResNet18(Architecture):
    """ResNet-18 with pre-activation, CIFAR form."""

    paper: ClassVar[str] = "He et al., ECCV 2016; S2, section 5"
    kind: Literal["preact_resnet18"] = "preact_resnet18"

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model, for images of any size."""
        from learning.models.parts.modules import Classifier, PreActBlock

        body = torch.nn.Sequential(torch.nn.Conv2d(shape[0], 64, 3, padding=1, bias=False))
        for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            body.extend([PreActBlock(inputs, outputs, stride), PreActBlock(outputs, outputs, 1)])
        body.extend([torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()])
        return Classifier(body, torch.nn.Linear(512, classes))
