"""What the schema wants at a path: for error messages, not for validation."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scenarios.text.quoting import listing, shown

Annotation = Any  # what may stand behind a field's colon
Path = Sequence[str | int]
_DEEPEST = 4  # steps below a mapping at which a misplaced field is looked for

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
    annotation, _ = _walked(root, data, path)
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
    model = _model(*_walked(root, data, path))
    return [] if model is None else list(_by_name(model))


def kinds_of(root: type[BaseModel], data: object, path: Path) -> list[str]:
    """Return the values that `kind` may have in the mapping at a path."""
    annotation, _ = _walked(root, data, path)
    models = [option for option, _ in _options(annotation) if _is_model(option)]
    return [str(kind) for model in models for kind in _kinds(model)]


def default_of(root: type[BaseModel], data: object, path: Path) -> object:
    """Return the default of the field at a path; None where it has none or is no field."""
    field = _field(root, data, path)
    if field is None or field.is_required():
        return None
    return field.get_default(call_default_factory=True, validated_data={})


def remedy(root: type[BaseModel], data: object, path: Path) -> str:
    """Return what a field that is missing is for, as `` (what it is)``; "" where nobody says."""
    field = _field(root, data, path)
    told = (field.description or "").rstrip(".") if field is not None else ""
    return f" ({told[:1].lower()}{told[1:]})" if told else ""


def kinds_with(root: type[BaseModel], data: object, path: Path, name: str) -> list[str]:
    """Return the kinds, other than the chosen one, of which the mapping would have a field."""
    annotation, _ = _walked(root, data, path)
    models = [option for option, _ in _options(annotation) if _is_model(option)]
    return [str(kind) for model in models if name in _by_name(model) for kind in _kinds(model)]


def homes_of(
    root: type[BaseModel], data: object, path: Path, name: str
) -> list[tuple[str | int, ...]]:
    """Return the paths below a path at which a field of this name can stand, nearest first.

    What is not written counts as its default has it; lists and mappings by name are searched as
    far as they are filled.
    """
    found: list[tuple[str | int, ...]] = []
    level = [(tuple(path), *_walked(root, data, path))]
    for _ in range(_DEEPEST):
        level = [inner for at in level for inner in _below(*at)]
        found += [at for at, _, _ in level if at[-1] == name and name != "kind"]
    return list(dict.fromkeys(found))


def _below(
    path: tuple[str | int, ...], annotation: Annotation, data: object
) -> Iterator[tuple[tuple[str | int, ...], Annotation, object]]:
    """Yield what stands one step below a path: its path, annotation and data."""
    model = _model(annotation, data)
    if model is not None:
        for step, field in _by_name(model).items():
            written, inside = _item(data, step), _inside(model, data, step)
            yield (*path, step), inside, _unwritten(field) if written is None else written
    elif isinstance(data, dict | list):
        steps: list[Any] = list(data)[:20] if isinstance(data, dict) else [*range(len(data))][:20]
        for step in steps:
            yield (*path, step), _inside(annotation, data, step), _item(data, step)


def _unwritten(field: FieldInfo) -> object:
    """Return what stands for a field that is not written: the kind of its default."""
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True, validated_data={})
    return {"kind": getattr(default, "kind", None)} if isinstance(default, BaseModel) else None


def _walked(root: type[BaseModel], data: object, path: Path) -> tuple[Annotation, object]:
    annotation: Annotation = root
    for step in path:
        annotation = _inside(annotation, data, step)
        data = _item(data, step)
    return annotation, data


def _field(root: type[BaseModel], data: object, path: Path) -> FieldInfo | None:
    annotation, value = _walked(root, data, path[:-1])
    model = _model(annotation, value)
    return None if model is None else _by_name(model).get(str(path[-1]))


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
