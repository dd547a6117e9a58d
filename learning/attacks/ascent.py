"""Projected gradient ascent on the loss, the part that FGSM and PGD share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["linf", "l2"]
Radius = Annotated[float, Field(ge=0, le=10_000)]

_TINY = 1e-12  # keeps a zero gradient from being divided by zero


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


def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    step_size: float,
    steps: int,
) -> Tensor:
    """Climb the cross-entropy from `start`, in the ball of `epsilon` around `x` and in [0, 1].

    Only the gradient of the inputs is computed; the parameters' `grad` is left alone.

    Args:
        model: Gives logits (n, classes); call within `evaluating`.
        x: Inputs, float (n, C, H, W), in [0, 1].
        y: True labels, int64 (n,).
        start: First iterate, same shape and type as `x`.
        norm: Of the ball and of the step.
        epsilon: Radius of the ball, in units of the inputs.
        step_size: Length of a step in `norm`.
        steps: Number of steps.

    Returns:
        The last iterate.
    """
    at = start
    for _ in range(steps):
        leaf = at.detach().requires_grad_()
        loss = F.cross_entropy(model(leaf), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        at = at + step_size * _unit(gradient.nan_to_num(0.0), norm)
        at = (x + into_ball(at - x, norm, epsilon)).clamp(0, 1)
    return at.detach()


def _unit(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / _lengths(gradient).clamp_min(_TINY)


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
