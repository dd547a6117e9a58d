"""What the schema wants at a path: for error messages, not for validation."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scenarios.quoting import listing, shown

Annotation = Any  # what may stand behind a field's colon
Path = Sequence[str | int]

_NOUNS: dict[Annotation, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


def wanted(root: type[BaseModel], data: object, path: Path) -> str:
    """Return what is expected at a path, such as ``a number from 0 to 1``.

    Args:
        root: The outermost model.
        data: The plain data, which tells the models of a union apart.
        path: Keys and positions from the root.
    """
    annotation: Annotation = root
    for step in path:
        annotation = _inside(annotation, data, step)
        data = _item(data, step)
    options = list(_options(annotation))
    kinds = [kind for option, _ in options if _is_model(option) for kind in _kinds(option)]
    texts = dict.fromkeys(
        f"a mapping with a kind (one of {listing(map(str, kinds), 40)})"
        if _is_model(option) and len(kinds) > 1
        else _text(option, limits)
        for option, limits in options
    )
    return " or ".join(texts) or "another value"


def fields_of(root: type[BaseModel], data: object, path: Path) -> list[str]:
    """Return the names of the fields that the mapping at a path may have."""
    annotation: Annotation = root
    for step in path:
        annotation = _inside(annotation, data, step)
        data = _item(data, step)
    model = _model(annotation, data)
    return [] if model is None else list(_by_name(model))


def kinds_of(root: type[BaseModel], data: object, path: Path) -> list[str]:
    """Return the values that `kind` may have in the mapping at a path."""
    annotation: Annotation = root
    for step in path:
        annotation = _inside(annotation, data, step)
        data = _item(data, step)
    models = [option for option, _ in _options(annotation) if _is_model(option)]
    return [str(kind) for model in models for kind in _kinds(model)]


def _inside(annotation: Annotation, data: object, step: str | int) -> Annotation:
    model = _model(annotation, data)
    if model is not None:
        field = _by_name(model).get(str(step))
        return None if field is None else Annotated[field.annotation, *field.metadata, field]
    for option, _ in _options(annotation):
        arguments = get_args(option)
        if _origin(option) is tuple and isinstance(step, int):
            repeated = len(arguments) == 2 and arguments[1] is Ellipsis
            return arguments[0 if repeated else min(step, len(arguments) - 1)]
        if _origin(option) is dict:
            return arguments[1]
    return None


def _item(data: object, step: str | int) -> object:
    if isinstance(data, dict):
        return data.get(step)
    if isinstance(data, list) and isinstance(step, int) and 0 <= step < len(data):
        return data[step]
    return None


def _model(annotation: Annotation, data: object) -> type[BaseModel] | None:
    models: list[type[BaseModel]]
    models = [option for option, _ in _options(annotation) if _is_model(option)]
    kind = data.get("kind") if isinstance(data, dict) else data  # some kinds can be written bare
    for model in models:
        if kind in _kinds(model):
            return model
    return models[0] if len(models) == 1 else None


def _origin(annotation: Annotation) -> Annotation:
    return get_origin(annotation)


def _is_model(option: Annotation) -> bool:
    return isinstance(option, type) and issubclass(option, BaseModel)


def _kinds(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def _by_name(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _options(
    annotation: Annotation, limits: tuple[object, ...] = ()
) -> Iterator[tuple[Annotation, tuple[object, ...]]]:
    """Yield the members of a union with the constraints that hold for each."""
    origin, arguments = _origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _options(arguments[0], (*limits, *_constraints(arguments[1:])))
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _options(argument, limits)
    elif annotation is not None:
        yield annotation, limits


def _constraints(metadata: Iterable[object]) -> Iterator[object]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from (*item.metadata, item)
        else:
            yield item


def _text(option: Annotation, limits: tuple[object, ...]) -> str:
    bounds = {
        name: value
        for limit in limits
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern", "examples")
        if (value := getattr(limit, name, None)) is not None
    }
    origin = _origin(option)
    if origin is Literal:
        names = [shown(value) for value in get_args(option)]
        return names[0] if len(names) == 1 else f"one of {listing(names, 30)}"
    if option in (int, float):
        return _NOUNS[option] + _range(bounds)
    if option is str:
        return _NOUNS[str] + _length(bounds, "characters")
    if origin in (tuple, list):
        return "a list" + _length(bounds, "items")
    return str(_NOUNS.get(option, "a mapping"))


def _range(bounds: dict[str, object]) -> str:
    low, high = bounds.get("ge"), bounds.get("le")
    if "ge" in bounds and ("le" in bounds or "lt" in bounds):
        return f" from {low} to " + (f"{high}" if "le" in bounds else f"below {bounds['lt']}")
    parts = [
        f"{words} {bounds[name]}"
        for name, words in (
            ("ge", "of at least"),
            ("gt", "above"),
            ("le", "at most" if "gt" in bounds else "of at most"),
            ("lt", "below"),
        )
        if name in bounds
    ]
    return " " + " and ".join(parts) if parts else ""


def _length(bounds: dict[str, object], unit: str) -> str:
    if "examples" in bounds:
        return f" such as {listing(map(str, cast(Iterable[object], bounds['examples'])))}"
    if "pattern" in bounds:
        return f" matching {bounds['pattern']}"
    low, high = bounds.get("min_length"), bounds.get("max_length")
    if low and high:
        return f" of {low} to {high} {unit}"
    if low:
        return f" of at least {low} {unit}"
    return f" of at most {high} {unit}" if high else ""
