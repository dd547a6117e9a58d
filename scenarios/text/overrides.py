"""``--set path=value``: changes to a scenario's plain data before it is validated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from scenarios.text.quoting import listing, nearest, printable, shown
from scenarios.text.yaml_reader import Document, Path, Plain, YamlError, read

Fresh = Callable[[Path], dict[str, Plain]]
_STEP = re.compile(r'"(?P<quoted>[^"]*)"|\[(?P<index>\d{1,9})\]|(?P<name>[^.\[\]"]+)')


class OverrideError(Exception):
    """A ``--set`` cannot be applied.

    Attributes:
        field: What it was to set.
        message: ``expected ..., got ...``, one line.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def _empty(path: Path) -> dict[str, Plain]:
    return {}


def apply(document: Document, override: str, fresh: Fresh = _empty) -> Path:
    """Set one value in a document; return the path of what came into it.

    Steps of the path are separated by dots; an item of a list is named by its position
    (``agents[1]`` or ``agents.1``) or by its own `name` (``agents.mallory``). A name with a dot
    goes into double quotes. Mappings that are not there yet are made.

    Args:
        document: Changed in place.
        override: ``path=value``; the value is YAML.
        fresh: Gives what a mapping begins with that is made at a path, such as its default `kind`.

    Raises:
        OverrideError: If the text has no ``=``, a step leads nowhere or the value is not YAML.
    """
    text, equals, value = override.partition("=")
    if not equals or not text.strip():
        raise OverrideError("", f"expected path=value, got {shown(override)}")
    steps = list(_steps(text.strip()))
    try:
        new = read(value) if value.strip() else Document(None, {}, {})
    except YamlError as error:
        raise OverrideError(printable(text, 80), error.message) from None
    return _put(document, steps, text, new, fresh)


def place(document: Document, field: str, new: Document, fresh: Fresh = _empty) -> Path:
    """Set one value in a document to another document, as `apply` does with a text.

    Args:
        document: Changed in place.
        field: The path, as for `apply`.
        new: The value; its marks become those of the field.
        fresh: As for `apply`.

    Raises:
        OverrideError: If a step leads nowhere.
    """
    if not field.strip():
        raise OverrideError("", f"expected a path like agents[1].count, got {shown(field)}")
    return _put(document, list(_steps(field.strip())), field, new, fresh)


def _put(
    document: Document, steps: list[str | int], text: str, new: Document, fresh: Fresh
) -> Path:
    path, made = _descend(document.data, steps, text, fresh)
    for marks, added in ((document.keys, new.keys), (document.values, new.values)):
        for old in [old for old in marks if old[: len(path)] == path]:
            del marks[old]
        marks.update({(*path, *inner): mark for inner, mark in added.items()})
    _container(document.data, path)[path[-1]] = new.data
    return made


def _steps(text: str) -> Iterator[str | int]:
    position = 0
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            raise OverrideError(
                printable(text, 80), f"expected a path like agents[1].count, got {shown(text)}"
            )
        if found["index"] is not None:
            yield int(found["index"])
        else:
            yield found["quoted"] if found["quoted"] is not None else found["name"]
        position = found.end()
        if position + 1 < len(text) and text[position] == ".":
            position += 1


def _descend(data: Plain, steps: list[str | int], text: str, fresh: Fresh) -> tuple[Path, Path]:
    """Resolve the steps against the data, making the mappings that are missing.

    Returns:
        The path, and its beginning up to the first mapping that was made.
    """
    path: list[str | int] = []
    made: Path | None = None
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if isinstance(data, dict) and isinstance(step, str):
            if not last and data.get(step) is None:
                # Another kind than the default's would find fields that are not its own.
                data[step] = {} if steps[number + 1] == "kind" else fresh((*path, step))
                made = made or (*path, step)
            path.append(step)
            data = data.get(step)
        elif isinstance(data, list):
            path.append(_position(data, step, text))
            data = data[int(path[-1])]
        else:
            at = printable(".".join(map(str, path)), 60) or "the top"
            kind = "a mapping" if isinstance(step, str) else "a list"
            raise OverrideError(printable(text, 80), f"expected {kind} at {at}, got {shown(data)}")
    return tuple(path), made or tuple(path)


def _position(items: list[Plain], step: str | int, text: str) -> int:
    if isinstance(step, int) or step.isdecimal():
        if int(step) < len(items):
            return int(step)
        size = f"a position from 0 to {len(items) - 1}" if items else "an item of an empty list"
        raise OverrideError(printable(text, 80), f"expected {size}, got {step}")
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if step in names:
        return names.index(step)
    known = [str(name) for name in names if name is not None]
    hint = nearest(step, known) or (f" (there are {listing(known)})" if known else "")
    raise OverrideError(
        printable(text, 80), f"expected the position or name of an item, got {shown(step)}{hint}"
    )


def _container(data: Plain, path: Path) -> Plain:
    for step in path[:-1]:
        data = data[step]
    return data
