"""What a model looks at before it decides: the input of its last linear layer.

Any `nn.Module` will do: the layer is found by running the model, not by a name. Filters that look
at features (spectral signatures, activation clustering, ...) get them through `features_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isfunction
from typing import Any

import torch


def features_of(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the input of the linear layer that runs last, (n, d).

    A model without any linear layer may say its features itself, by a method ``features(x)``.

    Args:
        model: Any classifier; its weights and mode are left alone.
        x: Inputs, float (n, C, H, W).

    Raises:
        ValueError: If no linear layer runs and there is no method `features`; one line.
    """
    from learning.models.parts.modules import Classifier

    if isinstance(model, Classifier):
        return model.features(x)
    seen: list[torch.Tensor] = []
    if has_linear(model):
        with _listening(model, seen):
            model(x)
    elif says_features(model):
        seen.append(model.features(x))  # type: ignore[operator]
    if not seen:
        raise ValueError(
            f"expected a model that ends in a linear layer, got {type(model).__name__} without: "
            "end it with torch.nn.Linear, or give it a method features(x) -> (n, d)"
        )
    return seen[-1].flatten(1)


def has_linear(model: torch.nn.Module) -> bool:
    """Return whether a model has a linear layer."""
    return any(isinstance(layer, torch.nn.Linear) for layer in model.modules())


def says_features(model: torch.nn.Module) -> bool:
    """Return whether a model's class has a method `features`; a block of layers is none."""
    return isfunction(getattr(type(model), "features", None))


@contextmanager
def _listening(model: torch.nn.Module, seen: list[torch.Tensor]) -> Iterator[None]:
    """Keep what the linear layer that has run last was given; nothing stays hooked."""

    def listen(layer: torch.nn.Module, given: tuple[Any, ...], _: object) -> None:
        seen[:] = given[:1]

    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(listen) for layer in linear]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
