"""What `play` and `sweep` are given becomes a scenario: names, paths, mappings, objects."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from learning.data.base import DataSource
from learning.given.data import GivenData
from learning.given.model import GivenModel
from learning.method import Method
from scenarios.library import find
from scenarios.loader import PYTHON_CALL, Look, from_document, load_sweep, parse_sweep
from scenarios.scenario import Scenario
from scenarios.sweep.spec import Sweep
from scenarios.text.yaml_reader import Document, YamlError, read, read_file
from server.errors import RunFolderError

Given = str | Path | Mapping[str, Any] | Scenario


def scenario_of(given: Given, seed: int | None, changes: Mapping[str, Any]) -> Scenario:
    """Return the scenario that is meant.

    Args:
        given: A name of the library, a path, a mapping, or a scenario.
        seed: Its seed; None for its own.
        changes: By path as for ``--set``, what stands there instead.

    Raises:
        ScenarioError: If it is none, or does not fit its data; one line for each mistake.
        TypeError: If it is given as something else.
        ValueError: If an object from Python cannot be taken; one line.
    """
    document, name = _document(given)
    document = replace(document, data=_taken(document.data))
    asked = {**changes, **({} if seed is None else {"seed": seed})}
    placed = {path: _taken_at(path, value) for path, value in asked.items()}
    return from_document(document, name, placed)


def sweep_of(given: str | Path | Mapping[str, Any], changes: Mapping[str, Any]) -> Sweep:
    """Return the sweep that is meant.

    Args:
        given: A name of the library, a path or a mapping.
        changes: By path as for ``--set``, what stands there instead.

    Raises:
        ScenarioError: If it is none; one line for each mistake.
        TypeError: If an object from Python stands in it: the cells are played by processes of
            their own, which take plain values.
    """
    overrides = [f"{path}={_plain(path, value)}" for path, value in changes.items()]
    if isinstance(given, Mapping):
        return parse_sweep(_plain("the sweep", given), "sweep()", overrides)
    return load_sweep(find(str(given)), overrides, Look.MUST)


def objects_in(scenario: Scenario) -> list[str]:
    """Return the objects of a scenario that no file and no installed package holds."""
    given = (scenario.model, scenario.data)
    return [
        *(one.of for one in given if isinstance(one, GivenModel | GivenData)),
        *(str(one["method"]) for one in scenario.plugins() if not one["entry_point"]),
    ]


def _plain(where: str, value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:
        raise TypeError(
            f"{where}: expected plain values in a sweep, got another: {error}; play games with "
            "objects from Python one by one, with play"
        ) from None


def _document(given: Given) -> tuple[Document, str]:
    if isinstance(given, Scenario):
        whole = {name: getattr(given, name) for name in type(given).model_fields}
        return Document(whole if given.plugins() else given.resolved()), given.name
    if isinstance(given, Mapping):
        return Document(copy.copy(dict(given))), PYTHON_CALL
    if not isinstance(given, str | Path):
        raise TypeError(
            "expected a name of the library, a path, a mapping or a Scenario, got "
            f"{type(given).__name__}"
        )
    path = find(str(given))
    try:
        return read(read_file(path)), str(path)
    except YamlError as error:
        raise RunFolderError(f"{path}: {error.message}") from None


def _taken(data: Any) -> Any:  # noqa: ANN401 - plain data with objects in it
    """Return a document with the objects that stand in for a model or data taken."""
    if not isinstance(data, dict):
        return data
    return {key: _taken_at(key, value) for key, value in data.items()}


def _taken_at(path: str, value: Any) -> Any:  # noqa: ANN401 - whatever it is
    if path == "model" and _is_model(value):
        return GivenModel.holding(value)
    if path == "data" and not _is_block(value, DataSource):
        return GivenData.holding(value)
    return _as_lists(value)


def _is_model(value: object) -> bool:
    return isinstance(value, nn.Module) or (callable(value) and not isinstance(value, Method))


def _is_block(value: object, family: type[Method]) -> bool:
    return isinstance(value, family) or (isinstance(value, Mapping) and "kind" in value)


def _as_lists(value: Any) -> Any:  # noqa: ANN401 - whatever it is
    """Return fresh mappings and lists, as those of a file are; methods stay as they are."""
    if isinstance(value, Mapping):
        return {str(key): _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, tuple | list) else value
