"""Where the validator's errors stand in the data, and which of them tell the user something.

A value that may be of several types is checked as each of them, and each check that fails is an
error of its own. The user has one in mind: the one whose type fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import ErrorDetails

from scenarios.text.yaml_reader import Path, Plain

_MISFITS = ("literal_error", "none_required")


@dataclass(frozen=True)
class ErrorPlace:
    """Where an error stands.

    Attributes:
        path: The path in the data.
        rest: What the validator's location says beyond it: a field that is not there, a name of a
            branch, ``[key]``.
        branched: Paths on the way at which a branch was entered and led on to an item.
    """

    path: Path
    rest: tuple[str | int, ...]
    branched: tuple[Path, ...]


def telling(errors: Sequence[ErrorDetails], data: Plain) -> list[tuple[ErrorDetails, ErrorPlace]]:
    """Return the errors worth telling, with their places.

    Left out are branches whose type does not fit where another's does, and lists that were found
    too short because an item of theirs is wrong.
    """
    placed = [(error, place(error["loc"], data)) for error in errors]
    entered = {path for _, where in placed for path in where.branched}
    return [
        (error, where)
        for error, where in placed
        if not _echo(error, at(data, where.path))
        and not (where.path in entered and _misfit(error["type"]))
    ]


def place(location: Sequence[str | int], data: Plain) -> ErrorPlace:
    """Split one of the validator's locations into the path in the data and what leads no further.

    It names the chosen member of a union as a step of its own: a `kind`, or a type.
    """
    path: list[str | int] = []
    branched: list[Path] = []
    chosen = False
    for number, step in enumerate(location):
        if isinstance(data, dict) and data.get("kind") == step and not chosen:
            chosen = True
            continue
        rest = tuple(location[number:])
        if isinstance(data, list) and isinstance(step, str) and len(rest) > 1:
            branched.append(tuple(path))  # no item of a list has a name: it is a type's
            continue
        inside = (isinstance(data, dict) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        )
        if not inside:
            return ErrorPlace(tuple(path), rest, tuple(branched))
        path.append(step)
        data = data[step]
        chosen = False
    return ErrorPlace(tuple(path), (), tuple(branched))


def at(data: Plain, path: Path) -> Plain:
    """Return the value at a path that is there."""
    for step in path:
        data = data[step]
    return data


def replaced(data: Plain, path: Path, value: Plain) -> Plain:
    """Return the data with another value at a path that is there; the data is left alone."""
    if not path:
        return value
    copy: Plain = list(data) if isinstance(data, list) else dict(data)
    copy[path[0]] = replaced(data[path[0]], path[1:], value)
    return copy


def _echo(error: ErrorDetails, value: Plain) -> bool:
    least = error.get("ctx", {}).get("min_length", 0)
    long_enough = isinstance(value, list | dict) and len(value) >= least
    return error["type"] == "too_short" and long_enough


def _misfit(kind: str) -> bool:
    return kind in _MISFITS or kind.endswith(("_type", "_parsing"))
