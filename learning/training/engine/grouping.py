"""Which trainings are one and the same, and which are run together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import nn

from learning.training.batches.batches import padded_width
from learning.training.batches.order import batch_sizes, validation_mask
from learning.training.batches.rows import RowStore
from learning.training.constraint import changes
from learning.training.engine.memory import Footprint
from learning.training.job import Training
from learning.training.recipe import Recipe

Key = tuple[object, ...]

# Sixteen small models fill a core's cache (measured: 8 and 32 are slower); a GPU takes more.
_CPU_STACK = 16
# Small batches leave a core waiting for Python, so more models share a step then.
_CPU_ROWS = 1024
_GPU_STACK = 256


def identity(request: Training, recipe: Recipe, store: RowStore) -> Key:
    """Return what tells two trainings apart.

    Start and steering stand for themselves: the key holds them, so that their identity stays
    their own.
    """
    hooks = tuple((type(hook), hook.model_dump_json()) for hook in request.hooks)
    length = recipe.length(request)
    how = (length, request.rate, request.steering)
    return (store.key(request.pool), hooks, request.start, request.purpose, *how)


def width_of(request: Training, recipe: Recipe) -> int | None:
    """Return how wide a training's batches are padded in a stack; None where nothing is stacked."""
    if not recipe.stacks:
        return None
    return padded_width(len(request.pool), recipe.training.batch_size)


def most_at_once(recipe: Recipe, module: nn.Module, device: torch.device, *, steered: bool) -> int:
    """Return how many models are trained as one.

    Args:
        recipe: How they are trained.
        module: One of them.
        device: Where they are trained.
        steered: Whether their steps are, which takes more memory.
    """
    if not recipe.stacks:
        return 1
    footprint = Footprint.of(
        module, recipe.shape, recipe.training, steered=steered, averaged=recipe.averaged
    )
    most = _GPU_STACK
    if device.type == "cpu":
        most = max(_CPU_STACK, _CPU_ROWS // recipe.training.batch_size)
    memory = recipe.compute.memory_gib / recipe.cores(device)
    return min(most, footprint.fit(memory, device))


def grouped(
    new: Mapping[Key, Training], recipe: Recipe, at_once: Mapping[bool, int], cores: int
) -> list[list[Key]]:
    """Return which trainings are run together, in the order of their first request.

    Args:
        new: The trainings by their `identity`.
        recipe: How they are trained.
        at_once: How many models a group may have, without and with steering.
        cores: Number of groups that run at a time.
    """
    alike: dict[Key, list[Key]] = {}
    for key, request in new.items():
        alike.setdefault(_kin(key, request, recipe), []).append(key)
    return [
        part for kin, keys in alike.items() for part in _parts(keys, at_once[bool(kin[-1])], cores)
    ]


def _kin(key: Key, request: Training, recipe: Recipe) -> Key:
    """Return what trainings of a group have in common."""
    at_work = changes(request.steering)
    length = recipe.length(request)
    by_epoch = at_work[-1:] == (True,) or not recipe.training.schedule.constant
    batches = None
    if length.steps is not None and by_epoch:  # their epochs begin at the same steps
        batches = _batches(request, recipe)
    return (key[1], length, width_of(request, recipe), request.rate, batches, at_work)


def _batches(request: Training, recipe: Recipe) -> int:
    """Return a training's number of batches in an epoch."""
    spec, pool = recipe.training, request.pool
    held = validation_mask(recipe.seed, spec.validation_share, pool.ids)
    rows = len(pool) - int(held.sum())
    return len(batch_sizes(rows, spec.batch_size, join_single=not recipe.architecture.batchable))


def _parts(keys: list[Key], most: int, cores: int) -> list[list[Key]]:
    """Cut into even groups: none above `most`, and work for each core where there is enough."""
    groups = max(-(-len(keys) // most), min(cores, len(keys) // 4))
    bounds = [len(keys) * i // groups for i in range(groups + 1)]
    return [keys[a:b] for a, b in pairwise(bounds)]
