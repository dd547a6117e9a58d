"""The CNN of S3: two convolutions with max-pooling, and one linear layer (5.1).

S3 prints no widths; its public code has 16 and 32 channels and 5 x 5 kernels without padding. With
padding, which is ours, images of any size can be taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from learning.models.base import Architecture

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier

_CHANNELS, _KERNEL = (16, 32), 5


class TwoConvCNN(Architecture):
    """Two 5 x 5 convolutions with ReLU and 2 x 2 max-pooling, and a linear layer."""

    paper: ClassVar[str] = "S3 5.1 and its public code"
    kind: Literal["two_conv_cnn"] = "two_conv_cnn"
    batchable: ClassVar[bool] = True
    padding: bool = Field(
        True,
        description="Whether the border is padded with zeros, so that a convolution leaves the "
        "size of the image (S3's code: no).",
        json_schema_extra={"origin": "ours"},
    )

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model.

        Raises:
            ValueError: If the image is smaller than its layers need: 4 x 4 with padding, 16 x 16
                without.
        """
        from learning.models.parts.modules import Classifier

        body, before, sides = torch.nn.Sequential(), shape[0], list(shape[1:])
        for channels in _CHANNELS:
            pad = _KERNEL // 2 if self.padding else 0
            body.append(torch.nn.Conv2d(before, channels, _KERNEL, padding=pad))
            body.append(torch.nn.ReLU())
            body.append(torch.nn.MaxPool2d(2))
            sides = [(side + 2 * pad - _KERNEL + 1) // 2 for side in sides]
            before = channels
        if min(sides) < 1:
            least = "4 x 4" if self.padding else "16 x 16"
            raise ValueError(f"two_conv_cnn takes inputs of at least {least}, got {shape[1:]}")
        body.append(torch.nn.Flatten())
        return Classifier(body, torch.nn.Linear(before * sides[0] * sides[1], classes))
