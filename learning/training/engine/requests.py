"""What a training may ask for."""

from __future__ import annotations

from math import inf

from torch import nn

from learning.method import kind_of
from learning.models.base import Architecture
from learning.training.constraint import check_steering
from learning.training.job import Training
from learning.training.recipe import Recipe
from learning.training.spec import TrainingSpec


def check_batchable(architecture: Architecture, module: nn.Module) -> None:
    """Refuse an architecture that cannot be trained as one of many although it says so.

    Args:
        architecture: What is trained.
        module: The untrained model that it builds.

    Raises:
        ValueError: If it is `batchable` and has buffers, tied weights or frozen parameters.
    """
    if not architecture.batchable:
        return
    names = dict(module.named_parameters(remove_duplicate=False))
    for what, found in (
        ("buffers", any(True for _ in module.buffers())),
        ("tied weights", len({id(weight) for weight in names.values()}) < len(names)),
        ("frozen parameters", not all(weight.requires_grad for weight in names.values())),
    ):
        if found:
            raise ValueError(
                f"expected the batchable architecture {kind_of(type(architecture))} to have no "
                f"{what}, got some: set batchable to False in its class"
            )


def check_spec(spec: TrainingSpec) -> None:
    """Refuse settings that no training can follow.

    Raises:
        ValueError: If early stopping watches validation rows that nobody holds out.
    """
    stopping = spec.early_stopping
    watched = stopping is not None and stopping.monitor != "train_loss"
    if watched and spec.validation_share == 0:
        raise ValueError("training.early_stopping.monitor needs validation_share above 0")


def check_request(request: Training, recipe: Recipe, width: int) -> None:
    """Refuse a training that cannot be done.

    Args:
        request: What is asked for.
        recipe: How models are trained.
        width: Number of weights of a model.

    Raises:
        ValueError: If the pool is empty or does not fit the recipe; if the length, the rate or
            the steering is out of its range; if a number of steps meets early stopping.
    """
    _check_pool(request, recipe)
    if request.steering is not None:
        check_steering(request.steering, width)
    if not 0 < request.rate < inf:
        raise ValueError(f"expected a finite rate of a training above 0, got {request.rate}")
    for name, value in (("epochs", request.epochs), ("steps", request.steps)):
        if value is not None and value < 1:
            raise ValueError(f"expected at least 1 of a training's {name}, got {value}")
    if request.steps is not None and recipe.training.early_stopping is not None:
        raise ValueError(
            f"expected no early stopping of a training of {request.steps} steps, got "
            "training.early_stopping: set it to null, or train for epochs"
        )


def _check_pool(request: Training, recipe: Recipe) -> None:
    pool = request.pool
    if not len(pool):
        raise ValueError("expected rows to train on, got an empty pool")
    if pool.classes != recipe.classes:
        raise ValueError(f"expected a pool of {recipe.classes} classes, got {pool.classes}")
    for block in pool.blocks:
        if block.x.shape[1:] != recipe.shape:
            raise ValueError(
                f"expected inputs of shape {recipe.shape}, got {block.x.shape[1:]} of "
                f"{block.owner!r}"
            )
