"""The small CNN of S0 (Table 2: 15,722 parameters at 3x32x32 and 10 classes).

The paper gives the count only. Three 3x3 convolutions C -> 16 -> 32 -> 32 with bias and without
normalisation, global average pooling, and linear layers 32 -> 32 -> classes have exactly this count
(deduced); how the image shrinks between the convolutions leaves the count alone and is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from learning.models.base import Architecture

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier


class SmallCNN(Architecture):
    """Three convolutions and two linear layers; many can be trained as one."""

    paper: ClassVar[str] = "S0, Table 2 and A.2.2"
    kind: Literal["small_cnn"] = "small_cnn"
    batchable: ClassVar[bool] = True
    downsample: Literal["max", "average", "stride", "none"] = Field(
        "max",
        description="How height and width are halved after a convolution: 2x2 max or average "
        "pooling, a stride of 2 in the convolution itself, or not at all.",
        json_schema_extra={"origin": "ours"},
    )
    halvings: int = Field(
        3,
        ge=0,
        le=3,
        description="After how many of the three convolutions, from the first, the image shrinks; "
        "an image of a single row or column shrinks no further.",
        json_schema_extra={"origin": "ours"},
    )

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model, for images of any size."""
        from learning.models.parts.modules import Classifier

        body, smallest = torch.nn.Sequential(), min(shape[1:])
        for stage, (inputs, outputs) in enumerate([(shape[0], 16), (16, 32), (32, 32)]):
            shrink = self.downsample != "none" and stage < self.halvings and smallest >= 2
            body.extend(self._stage(inputs, outputs, shrink))
            smallest //= 2 if shrink else 1
        body.extend(
            [
                torch.nn.AdaptiveAvgPool2d(1),
                torch.nn.Flatten(),
                torch.nn.Linear(32, 32),
                torch.nn.ReLU(),
            ]
        )
        return Classifier(body, torch.nn.Linear(32, classes))

    def _stage(self, inputs: int, outputs: int, shrink: bool) -> list[torch.nn.Module]:
        stride = 2 if shrink and self.downsample == "stride" else 1
        layers: list[torch.nn.Module] = [
            torch.nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        ]
        if shrink and self.downsample == "max":
            layers.append(
                torch.nn.MaxPool2d(2)
            )  # before ReLU: the same result on a quarter of the work
        layers.append(torch.nn.ReLU())
        if shrink and self.downsample == "average":
            layers.append(torch.nn.AvgPool2d(2))
        return layers
