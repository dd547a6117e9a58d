"""The models of a finished game, built again from its weights."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from learning.data.base import DataError, DataSource
from learning.models.base import Architecture
from scenarios.families import PYTHON
from scenarios.schema import AnyData, AnyModel
from server.errors import RunFolderError
from server.referee.results import GameResult
from server.store.run_folder import MODEL, RunFolder

Shape = tuple[int, int, int]


def models_of(
    run: RunFolder, result: GameResult, architecture: Architecture | None
) -> dict[str, nn.Module]:
    """Return the models of `model.safetensors` by name, in evaluation mode.

    Args:
        run: A finished run.
        result: Its result.
        architecture: The model, where the folder does not hold it; None to read it there.

    Raises:
        RunFolderError: If they cannot be built; one line.
    """
    scenario = run.scenario()
    built = architecture or _architecture(run, scenario["model"])
    shape = _shape(run, scenario["data"])
    models = {}
    for name, state in _states(run).items():
        try:
            module = built.build(shape, len(result.class_names))
            module.load_state_dict(state)
        except (ValueError, RuntimeError) as error:
            told = " ".join(str(error).split())[:200]
            raise RunFolderError(
                f"{run.path / MODEL}: expected weights of it, got {told}"
            ) from error
        models[name] = module.eval().requires_grad_(False)
    return models


def _architecture(run: RunFolder, block: Any) -> Architecture:  # noqa: ANN401 - JSON
    if block.get("kind") == PYTHON:
        raise RunFolderError(
            f"{run.path}: expected a model that a file can hold, got {block.get('of')}, an object "
            "from Python: build it, and load the weights of model.safetensors into it"
        )
    try:
        found: Architecture = TypeAdapter(AnyModel).validate_python(block)
    except ValidationError:
        raise RunFolderError(
            f"{run.path}: expected a model of this installation, got {block.get('kind')!r}"
        ) from None
    return found


def _shape(run: RunFolder, block: Any) -> Shape:  # noqa: ANN401 - JSON
    """Return the shape of one input: that of an image of the gallery, else of the data."""
    for images in run.gallery().values():
        channels, height, width = images.shape[1:]
        return int(channels), int(height), int(width)
    try:
        source: DataSource = TypeAdapter(AnyData).validate_python(block)
        shape = source.look().shape
        return source.load().shape if shape is None else shape
    except (ValidationError, DataError) as error:
        told = " ".join(str(error).split())[:200]
        raise RunFolderError(
            f"{run.path}: expected its data, for their shape, got {told}"
        ) from None


def _states(run: RunFolder) -> dict[str, dict[str, Tensor]]:
    try:
        tensors = load_file(run.path / MODEL)
    except (SafetensorError, OSError) as error:
        raise RunFolderError(f"{run.path / MODEL}: expected safetensors, got {error}") from None
    states: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        model, _, key = name.rpartition("/")
        states[model][key] = value
    return dict(states)
