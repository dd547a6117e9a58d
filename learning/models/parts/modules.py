"""The torch modules of our models: the frame that all share, and the blocks of the larger ones.

A module is a class of torch's, and to declare it takes torch. So that a scenario can be checked
without torch, methods import these where they build.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Of ImageNet's pixels, by channel.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """A body, then one linear layer.

    Attributes:
        body: Maps inputs (n, C, H, W) to features (n, d).
        head: Maps features to logits (n, classes).
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last linear layer, (n, d)."""
        out: Tensor = self.body(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, classes)."""
        out: Tensor = self.head(self.features(x))
        return out


class Residual(nn.Module):
    """Adds to its input what two convolutions with BatchNorm and ReLU make of it (ResNet-9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *plain_block(channels, channels), *plain_block(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs, (n, C, H, W), of inputs (n, C, H, W)."""
        out: Tensor = x + self.layers(x)
        return out


class BasicBlock(nn.Module):
    """Two convolutions; the shortcut has no parameters (He et al., CVPR 2016, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs, (n, C, H, W), of inputs (n, C, H, W)."""
        out: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        around = x[:, :, :: self.stride, :: self.stride]
        half = self.added // 2
        return (out + nn.functional.pad(around, (0, 0, 0, 0, half, self.added - half))).relu()


class PreActBlock(nn.Module):
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
        """Return outputs, (n, C, H, W), of inputs (n, C, H, W)."""
        active = self.norm1(x).relu()
        around: Tensor = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.norm2(self.conv1(active)).relu())
        return out + around


class Normalise(nn.Module):
    """Bring pixels in [0, 1] to the mean and deviation of ImageNet's; part of no state dict."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            own = values if channels == 3 else (sum(values) / 3,) * channels
            self.register_buffer(name, torch.tensor(own).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs, (n, C, H, W), of inputs (n, C, H, W)."""
        out: Tensor = (x - self.mean) / self.deviation
        return out


def plain_block(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a 3x3 convolution that keeps height and width, BatchNorm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
