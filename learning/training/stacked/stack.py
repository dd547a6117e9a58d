"""One forward pass of K models of the same architecture, derived from the architecture's layers.

Image layers see the K models' channels side by side, (b, K * C, H, W), and convolve in K groups;
linear layers are batched matrix products on (K, b, d). On a CPU the images are kept channels-last,
which is what makes grouped convolutions fast there (oneDNN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from learning.models.parts.modules import Classifier

Weights = Mapping[str, Tensor]
# Stacked weights by name, each (K, ...), and inputs (K, b, C, H, W) -> logits (K, b, classes).
StackedForward = Callable[[Weights, Tensor], Tensor]


class UnknownLayerError(TypeError):
    """A layer has no stacked form here."""


@dataclass(frozen=True, eq=False)
class Images:
    """Feature maps of K models side by side.

    Attributes:
        wide: (b, K * C, H, W), the channels of model k at k * C onward.
        models: K.
    """

    wide: Tensor
    models: int

    @classmethod
    def join(cls, x: Tensor) -> Images:
        """Put the models' images (K, b, C, H, W) side by side."""
        models, rows, channels, height, width = x.shape
        if x.device.type == "cpu":
            last = x.permute(1, 3, 4, 0, 2).contiguous()
            last = last.view(rows, height, width, models * channels)
            return cls(last.permute(0, 3, 1, 2), models)
        return cls(x.transpose(0, 1).reshape(rows, models * channels, height, width), models)

    def flat(self) -> Tensor:
        """Return each model's flattened maps, (K, b, C * H * W)."""
        rows, channels, height, width = self.wide.shape
        apart = self.wide.reshape(rows, self.models, channels // self.models, height, width)
        return apart.transpose(0, 1).flatten(2)


_LANES = 16  # numbers in a cache line, to which models of a stack are aligned on a CPU

Value = Tensor | Images  # vectors (K, b, d), raw inputs (K, b, C, H, W), or feature maps
Step = Callable[[Weights, Value], Value]


def stacked_forward(template: nn.Module) -> StackedForward:
    """Return the forward pass of many models like `template`.

    A layer without a stacked form makes the whole pass go through `torch.func.vmap`, which knows
    every layer but is slower on a CPU.
    """
    try:
        steps = [_step(name, layer) for name, layer in _layers(template)]
    except UnknownLayerError:
        return _mapped(template)

    def forward(weights: Weights, x: Tensor) -> Tensor:
        value: Value = x
        for step in steps:
            value = step(weights, value)
        return _vectors(value)

    return forward


def _mapped(template: nn.Module) -> StackedForward:
    def one(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = functional_call(template, weights, (x,))
        return out

    each = torch.func.vmap(one)
    return lambda weights, x: each(dict(weights), x)


def _layers(template: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(template, Classifier) or not isinstance(template.body, nn.Sequential):
        raise UnknownLayerError(type(template).__name__)
    for name, layer in template.body.named_children():
        yield f"body.{name}.", layer
    yield "head.", template.head


def _step(name: str, layer: nn.Module) -> Step:
    if isinstance(layer, nn.Linear):
        return _linear(name)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return _convolution(name, layer)
    if isinstance(layer, nn.ReLU):
        return lambda _, value: _relu(value)
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
        return lambda _, value: _vectors(value)
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return lambda _, value: _pool(layer, value)
    if isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
        return lambda _, value: _pool(layer, value)
    raise UnknownLayerError(type(layer).__name__)


def _images(value: Value) -> Images:
    return value if isinstance(value, Images) else Images.join(value)


def _vectors(value: Value) -> Tensor:
    return value.flat() if isinstance(value, Images) else value.flatten(2)


def _relu(value: Value) -> Value:
    if isinstance(value, Images):
        return Images(value.wide.relu(), value.models)
    return value.relu()


def _pool(layer: nn.Module, value: Value) -> Images:
    images = _images(value)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return Images(images.wide.mean((2, 3), keepdim=True), images.models)
    return Images(layer(images.wide), images.models)


def _linear(name: str) -> Step:
    def step(weights: Weights, value: Value) -> Tensor:
        x, weight = _vectors(value), weights[f"{name}weight"]
        _, outputs, inputs = weight.shape
        if x.device.type == "cpu" and (inputs % _LANES or outputs % _LANES):
            # Sums of a model that starts at an odd address are made in another order.
            x = F.pad(x, (0, -inputs % _LANES))
            weight = F.pad(weight, (0, -inputs % _LANES, 0, -outputs % _LANES))
        out = torch.bmm(x, weight.transpose(1, 2))[..., :outputs]
        bias = weights.get(f"{name}bias")
        return out if bias is None else out + bias.unsqueeze(1)

    return step


def _convolution(name: str, layer: nn.Conv2d) -> Step:
    def step(weights: Weights, value: Value) -> Images:
        images, bias = _images(value), weights.get(f"{name}bias")
        wide = F.conv2d(
            images.wide,
            weights[f"{name}weight"].flatten(0, 1),
            None if bias is None else bias.flatten(),
            layer.stride,
            layer.padding,
            layer.dilation,
            groups=images.models,
        )
        return Images(wide, images.models)

    return step
