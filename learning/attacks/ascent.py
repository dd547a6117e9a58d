"""The way up that FGSM and PGD share: a ball, directions in it, and the inputs under attack."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from learning.attacks.losses import Objective, scaled_cross_entropy, unit_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Norm = Literal["linf", "l2"]
Radius = Annotated[float, Field(ge=0, le=10_000)]

_TINY = 1e-12  # keeps a perturbation of 0 from being divided by zero


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode with gradients to its inputs on; restore each mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass(frozen=True)
class Ball:
    """The perturbations that an attack may make.

    Attributes:
        norm: Of the ball and of steps in it.
        epsilon: Radius, in units of the inputs.
    """

    norm: Norm
    epsilon: float

    def around(self, x: Tensor, at: Tensor) -> Tensor:
        """Return the inputs `at` cut to the ball around `x` and to the box [0, 1]."""
        return (x + into_ball(at - x, self.norm, self.epsilon)).clamp(0, 1)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a uniform point of the ball around each input, cut to the box."""
        return (x + random_in_ball(x, self.norm, self.epsilon, generator)).clamp(0, 1)


@dataclass(frozen=True)
class Inputs:
    """Inputs under attack.

    Attributes:
        rows: Their positions in the batch, int64 (n,).
        x: Clean, float (n, C, H, W), in [0, 1].
        y: True labels, int64 (n,).
        unit: By how much their clean logits differ, (n, 1); see `unit_of`.
    """

    rows: Tensor
    x: Tensor
    y: Tensor
    unit: Tensor

    def take(self, index: Tensor) -> Inputs:
        """Return some of them: positions in these, or a mask."""
        return Inputs(self.rows[index], self.x[index], self.y[index], self.unit[index])


def under_attack(model: nn.Module, x: Tensor, y: Tensor) -> Inputs:
    """Return a batch under attack; the model is asked for the unit of its logits."""
    with torch.no_grad():
        unit = unit_of(model(x))
    return Inputs(torch.arange(len(x), device=x.device), x, y.to(x.device), unit)


def probe(
    model: nn.Module, inputs: Inputs, at: Tensor, objective: Objective
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (n, classes), loss (n,) and its gradient (n, C, H, W) of the inputs `at`.

    The gradient of a model that has none is 0. Only that of the inputs is computed; the
    parameters' `grad` is left alone. Call within `evaluating`.
    """
    leaf = at.detach().requires_grad_()
    logits = model(leaf)
    loss = _loss(model, leaf, logits, inputs, objective)
    gradient = torch.zeros_like(at)
    if loss.requires_grad:
        (found,) = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)
        gradient = gradient if found is None else found.nan_to_num(0.0)
    return logits.detach(), loss.detach(), gradient


def _loss(
    model: nn.Module, at: Tensor, logits: Tensor, inputs: Inputs, objective: Objective
) -> Tensor:
    """Return the loss; scaled cross-entropy of several models is the mean of their own.

    The softmax of each sure member rounds to 0 and 1, and so the gradient of their mean fades where
    they disagree; that of their own losses does not.
    """
    members = getattr(model, "members", None)
    if not isinstance(members, torch.nn.ModuleList) or objective is not scaled_cross_entropy:
        return objective(logits, inputs.y, inputs.unit)
    each = [member(at) for member in members]
    return torch.stack([objective(own, inputs.y, unit_of(own)) for own in each]).mean(0)


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the steepest step of length 1 in `norm`, (n, ...); none where the gradient is 0."""
    if norm == "linf":
        return gradient.sign()
    # By the largest entry first: squares of very small and very large ones leave float32's range.
    largest = gradient.flatten(1).abs().amax(1).reshape(-1, *[1] * (gradient.dim() - 1))
    rows = gradient / torch.where(largest > 0, largest, 1.0)
    return rows / _lengths(rows).clamp_min(_TINY)


def into_ball(delta: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """Return the perturbations (n, ...) cut to the ball of radius `epsilon` around 0."""
    if norm == "linf":
        return delta.clamp(-epsilon, epsilon)
    return delta * (epsilon / _lengths(delta).clamp_min(_TINY)).clamp_max(1)


def _lengths(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return lengths.reshape(-1, *[1] * (rows.dim() - 1))


def random_in_ball(x: Tensor, norm: Norm, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return perturbations of the shape of `x`, uniform in the ball of radius `epsilon`.

    Drawn on the CPU, so that every device starts alike.
    """
    if norm == "linf":
        cube = torch.rand(x.shape, generator=generator, dtype=x.dtype) * 2 - 1
        return (epsilon * cube).to(x.device)
    rows = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    dimensions = math.prod(x.shape[1:])
    radius = torch.rand(len(x), generator=generator, dtype=x.dtype) ** (1 / dimensions)
    scale = (epsilon * radius).reshape(-1, *[1] * (x.dim() - 1))
    return (scale * rows / _lengths(rows).clamp_min(_TINY)).to(x.device)
