"""Any classifier of torchvision, by the name that torchvision gives it.

The last linear layer is replaced by one for the game's classes, the first convolution by one for
the game's channels. All these networks were published for images of about 224x224 pixels: most
shrink an image 32 times, so of small images little is left before the last layer, some (AlexNet,
Inception, VGG) refuse them, and vision transformers want sides that are multiples of a patch. The
kinds `resnet18` to `resnet152` have a stem for small images (``stem: cifar``).

SqueezeNet ends in a 1x1 convolution, ReLU and a mean over the image. Here the mean comes first and
a linear layer last, without the ReLU; the weights of the convolution fit it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import torch
from pydantic import Field

from learning.models.published import PublishedNet, fitted

Name = Literal[
    "alexnet",
    "convnext_base",
    "convnext_large",
    "convnext_small",
    "convnext_tiny",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_l",
    "efficientnet_v2_m",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mnasnet0_75",
    "mnasnet1_0",
    "mnasnet1_3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_16gf",
    "regnet_x_1_6gf",
    "regnet_x_32gf",
    "regnet_x_3_2gf",
    "regnet_x_400mf",
    "regnet_x_800mf",
    "regnet_x_8gf",
    "regnet_y_128gf",
    "regnet_y_16gf",
    "regnet_y_1_6gf",
    "regnet_y_32gf",
    "regnet_y_3_2gf",
    "regnet_y_400mf",
    "regnet_y_800mf",
    "regnet_y_8gf",
    "resnet101",
    "resnet152",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "swin_b",
    "swin_s",
    "swin_t",
    "swin_v2_b",
    "swin_v2_s",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vit_b_16",
    "vit_b_32",
    "vit_h_14",
    "vit_l_16",
    "vit_l_32",
    "wide_resnet101_2",
    "wide_resnet50_2",
]
_PATCH: Final = {"vit_b_16": 16, "vit_b_32": 32, "vit_l_16": 16, "vit_l_32": 32, "vit_h_14": 14}


class TorchvisionNet(PublishedNet):
    """A classifier of torchvision."""

    paper: ClassVar[str] = "torchvision.models (TorchVision maintainers and contributors, 2016)"
    kind: Literal["torchvision"] = "torchvision"
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({"name": "mobilenet_v3_small"},)
    name: Name = Field(
        description="What torchvision calls the network.", json_schema_extra={"origin": "ours"}
    )

    def network(
        self, shape: tuple[int, int, int], classes: int, weights: Mapping[str, torch.Tensor] | None
    ) -> torch.nn.Module:
        """Return the network with the game's channels and classes; see `PublishedNet`."""
        from torchvision import models  # imported here: it takes a second

        try:
            net: torch.nn.Module = models.get_model(
                self.name, weights=None, **self._settings(shape)
            )
        except (ValueError, AssertionError) as error:
            raise ValueError(
                f"model: expected inputs that {self.name} takes, got {shape[1]}x{shape[2]} pixels: "
                f"{' '.join(str(error).split())[:160]}"
            ) from error
        if self.name.startswith("squeezenet"):
            net, weights = _with_linear_head(net), _with_linear_keys(weights)
        return fitted(net, shape[0], classes, weights)

    def _settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        if self.name in ("googlenet", "inception_v3"):
            return {"aux_logits": False, "init_weights": True}
        if self.name == "maxvit_t":
            return {"input_size": shape[1:]}
        return self._transformer(shape) if self.name in _PATCH else {}

    def _transformer(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        patch = _PATCH[self.name]
        if shape[1] != shape[2] or shape[1] % patch:
            raise ValueError(f"{self.name} takes square images with sides that {patch} divides")
        return {"image_size": shape[1]}


def _with_linear_head(net: torch.nn.Module) -> torch.nn.Module:
    """Return a SqueezeNet that takes the mean over the image before its last layer."""
    dropout, convolution = net.get_submodule("classifier.0"), net.get_submodule("classifier.1")
    assert isinstance(convolution, torch.nn.Conv2d)  # noqa: S101 - for the type checker
    head = torch.nn.Linear(convolution.in_channels, convolution.out_channels)
    net.classifier = torch.nn.Sequential(
        dropout, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head
    )
    return net


def _with_linear_keys(
    weights: Mapping[str, torch.Tensor] | None,
) -> Mapping[str, torch.Tensor] | None:
    """Return a SqueezeNet's weights with its last convolution as a linear layer."""
    if weights is None or "classifier.1.weight" not in weights:
        return weights
    return {
        name.replace("classifier.1.", "classifier.3."): (
            value.flatten(1) if name == "classifier.1.weight" else value
        )
        for name, value in weights.items()
    }
