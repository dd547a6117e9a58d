"""ResNet-32 for small images (464,154 parameters at 3 channels and 10 classes).

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
section 4.2: 6n + 2 layers with n = 5, shortcuts without parameters (option A), He initialisation.
One of the two networks of S2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from learning.models.base import Architecture

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier


class ResNet32(Architecture):
    """Three stages of five blocks with 16, 32 and 64 channels."""

    paper: ClassVar[str] = "He et al., CVPR 2016, section 4.2; S2, section 5"
    kind: Literal["resnet32"] = "resnet32"

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model, for images of any size."""
        from learning.models.parts.modules import BasicBlock, Classifier

        body = torch.nn.Sequential(
            torch.nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(),
        )
        for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            body.append(BasicBlock(inputs, outputs, stride))
            body.extend([BasicBlock(outputs, outputs, 1) for _ in range(4)])
        body.extend([torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()])
        model = Classifier(body, torch.nn.Linear(64, classes))
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
        return model
