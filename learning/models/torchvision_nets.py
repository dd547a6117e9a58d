"""torchvision's ResNets, wide ResNets and VGG-11 with BatchNorm.

S0, Table 2: its parameter counts are exactly those of torchvision's models with their ImageNet
stem and ten classes (deduced), so that stem is the default. The paper does not say whether the
weights were pretrained on ImageNet; here they are where `pretrained` is set.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from learning.method import kind_of
from learning.models.base import Architecture
from learning.models.parts.sizes import check_size, too_small
from learning.models.published import other_channels

if TYPE_CHECKING:
    from torchvision.models import VGG, ResNet

    from learning.models.parts.modules import Classifier

SMALLEST = 32  # pixels that VGG-11 takes


class _HeadlessNet(Architecture):
    paper: ClassVar[str] = "S0, Table 2"

    pretrained: bool = Field(
        False,
        description="Start from torchvision's IMAGENET1K_V1 weights; the last layer is new.",
        json_schema_extra={"origin": "deduced"},
    )
    normalise: bool = Field(
        False,
        description="Bring inputs to ImageNet's mean and deviation first.",
        json_schema_extra={"origin": "ours"},
    )

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the model, untrained or with ImageNet's weights below the last layer.

        Raises:
            ValueError: If the image is too small, or the weights cannot be had.
        """
        from learning.models.parts.modules import Classifier, Normalise

        net = self._published()
        width = self._behead(net)
        self._fit(net, shape)
        body = torch.nn.Sequential(Normalise(shape[0]), net) if self.normalise else net
        return Classifier(body, torch.nn.Linear(width, classes))

    def _published(self) -> torch.nn.Module:
        from torchvision import models  # imported here: it takes a second

        kind = kind_of(type(self))
        net: torch.nn.Module = models.get_model(kind, weights=None)
        if self.pretrained:
            net.load_state_dict(_imagenet_weights(kind))
        return net

    @abstractmethod
    def _behead(self, net: torch.nn.Module) -> int:
        """Take the last linear layer off and return its number of inputs."""

    @abstractmethod
    def _fit(self, net: torch.nn.Module, shape: tuple[int, int, int]) -> None:
        """Make `net` take inputs of `shape`."""


class _TorchvisionResNet(_HeadlessNet):
    stem: Literal["imagenet", "cifar"] = Field(
        "imagenet",
        description="imagenet: 7x7 convolution of stride 2 and pooling, as published; cifar: one "
        "3x3 convolution, which keeps small images at their size.",
        json_schema_extra={"origin": "deduced"},
    )

    def _behead(self, net: ResNet) -> int:
        width = int(net.fc.in_features)
        net.fc = torch.nn.Identity()
        return width

    def _fit(self, net: ResNet, shape: tuple[int, int, int]) -> None:
        if self.stem == "cifar":
            net.conv1 = torch.nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
            net.maxpool = torch.nn.Identity()
        elif shape[0] != 3:
            net.conv1 = other_channels(net.conv1, shape[0], keep=self.pretrained)


class ResNet18(_TorchvisionResNet):
    """ResNet-18; 11,181,642 parameters with ten classes."""

    kind: Literal["resnet18"] = "resnet18"


class ResNet34(_TorchvisionResNet):
    """ResNet-34; 21,289,802 parameters with ten classes."""

    kind: Literal["resnet34"] = "resnet34"


class ResNet50(_TorchvisionResNet):
    """ResNet-50; 23,528,522 parameters with ten classes."""

    kind: Literal["resnet50"] = "resnet50"


class ResNet101(_TorchvisionResNet):
    """ResNet-101; 42,520,650 parameters with ten classes."""

    kind: Literal["resnet101"] = "resnet101"


class ResNet152(_TorchvisionResNet):
    """ResNet-152; 58,164,298 parameters with ten classes."""

    kind: Literal["resnet152"] = "resnet152"


class WideResNet50(_TorchvisionResNet):
    """Wide ResNet-50-2; 66,854,730 parameters with ten classes."""

    kind: Literal["wide_resnet50_2"] = "wide_resnet50_2"


class WideResNet101(_TorchvisionResNet):
    """Wide ResNet-101-2; 124,858,186 parameters with ten classes."""

    kind: Literal["wide_resnet101_2"] = "wide_resnet101_2"


class VGG11BN(_HeadlessNet):
    """VGG-11 with BatchNorm; 128,812,810 parameters with ten classes.

    Its first layer is a 3x3 convolution already, so it has no choice of stem; images must be at
    least 32x32.
    """

    kind: Literal["vgg11_bn"] = "vgg11_bn"

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Refuse what would be pooled down to nothing; see `Method.misfit`."""
        return too_small("vgg11_bn", shape, SMALLEST)

    def _behead(self, net: VGG) -> int:
        width = int(net.classifier[-1].in_features)
        net.classifier[-1] = torch.nn.Identity()
        return width

    def _fit(self, net: VGG, shape: tuple[int, int, int]) -> None:
        check_size("vgg11_bn", shape, SMALLEST)
        if shape[0] != 3:
            net.features[0] = other_channels(net.features[0], shape[0], keep=self.pretrained)


def _imagenet_weights(kind: str) -> dict[str, torch.Tensor]:
    from torchvision import models

    weights = models.get_model_weights(kind).IMAGENET1K_V1
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"model.pretrained: expected the ImageNet weights of {kind} in torch's cache or on the "
            f"network, got {type(error).__name__}: connect once, or set pretrained: false"
        ) from error
    return state
