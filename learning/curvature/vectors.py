"""The weights of a model as one vector, in the order of its parameters, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

Weights = dict[str, "Tensor"]


def weights_of(module: nn.Module) -> Weights:
    """Return a model's weights by name."""
    return {name: p.detach() for name, p in module.named_parameters()}


def flat(weights: Weights) -> Tensor:
    """Return weights as one vector (P,)."""
    return torch.cat([w.flatten() for w in weights.values()])


def unflat(vector: Tensor, like: Weights) -> Weights:
    """Return a vector (P,) in the shapes of a model's weights."""
    parts = torch.split(vector, [w.numel() for w in like.values()])
    return {n: part.view_as(w) for part, (n, w) in zip(parts, like.items(), strict=True)}


def vector_of(module: nn.Module) -> Tensor:
    """Return a copy of a model's weights as one vector (P,)."""
    return flat(weights_of(module))


def load(module: nn.Module, vector: Tensor) -> None:
    """Write a vector (P,) into a model's weights.

    Raises:
        ValueError: If it is not as long as the model has weights.
    """
    weights = weights_of(module)
    count = sum(w.numel() for w in weights.values())
    if vector.shape != (count,):
        raise ValueError(
            f"weights of a model: expected a vector of {count}, got {tuple(vector.shape)}"
        )
    with torch.no_grad():
        for name, part in unflat(vector, weights).items():
            weights[name].copy_(part)
