"""The resolved scenario as a table: each parameter, its value and where its default comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from backfire.reporting.text import NONE, plain
from learning.method import Method
from scenarios.scenario import Scenario

MAX_ROWS = 600
ORIGINS = {
    "paper": "the paper says so",
    "code": "the paper's code does so",
    "deduced": "deduced from the paper's numbers",
    "ours": "open in the paper; our choice",
}


@dataclass(frozen=True)
class Parameter:
    """One line of the table.

    Attributes:
        path: Such as ``agents[1].behaviour.poison_rate``.
        value: As JSON.
        origin: ``paper``, ``code``, ``deduced`` or ``ours`` for a default that has one,
            ``scenario`` for a value other than the default, or "".
        note: What it means.
        paper: The paper of a method; "" for parameters.
    """

    path: str
    value: str
    origin: str = ""
    note: str = ""
    paper: str = ""


def parameters(resolved: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return the lines of a resolved scenario, at most `MAX_ROWS`.

    A scenario that this version cannot validate (it was played by another one) is listed without
    origins.
    """
    try:
        lines = _of_model(Scenario.model_validate(resolved), "")
    except ValidationError:
        lines = _of_value(resolved, "")
    return tuple(line for line, _ in zip(lines, range(MAX_ROWS), strict=False))


def _of_model(model: BaseModel, path: str) -> Iterator[Parameter]:
    fields = type(model).model_fields
    # `kind` first: it says what the lines after it belong to.
    for name in sorted(fields, key=lambda name: name != "kind"):
        info, value = fields[name], getattr(model, name)
        here = f"{path}.{info.alias or name}" if path else info.alias or name
        if _holds_models(value):
            yield from _of_value(value, here)
        elif name == "kind" and isinstance(model, Method):
            yield Parameter(here, plain(value), "", _summary(model), plain(model.paper, 300))
        else:
            yield Parameter(here, _json(value), _origin(info, value), _prose(info.description))


def _of_value(value: object, path: str) -> Iterator[Parameter]:
    if isinstance(value, BaseModel):
        yield from _of_model(value, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _of_value(item, f"{path}.{plain(key)}" if path else plain(key))
    elif isinstance(value, list | tuple) and (_holds_models(value) or not path):
        for k, item in enumerate(value):
            yield from _of_value(item, f"{path}[{k}]")
    else:
        yield Parameter(path, _json(value))


def _holds_models(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_models(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_models(item) for item in value)
    return isinstance(value, BaseModel)


def _origin(info: FieldInfo, value: object) -> str:
    if info.is_required() or value != info.get_default(call_default_factory=True):
        return "scenario"
    extra = info.json_schema_extra
    origin = extra.get("origin") if isinstance(extra, dict) else None
    return str(origin) if origin in ORIGINS else ""


def _summary(model: BaseModel) -> str:
    return _prose((type(model).__doc__ or "").strip().split("\n")[0])


def _prose(text: str | None) -> str:
    return (text or "").replace("`", "")


def _json(value: object) -> str:
    if value is None or value == "":
        return NONE
    return plain(to_json(value).decode(), 400)
