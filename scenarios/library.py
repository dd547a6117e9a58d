"""The scenario library: the files that come with Backfire, by name, and what they are about.

Nothing here imports a method, so that listing and finding are quick.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scenarios.text.errors import LocatedProblem, ScenarioError
from scenarios.text.quoting import listing, nearest, shown
from scenarios.text.yaml_reader import YamlError, read, read_file

FOLDER: Final = Path(__file__).parent
SCHEMA_FILE: Final = FOLDER / "schema.json"
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True)
class Entry:
    """A scenario of the library.

    Attributes:
        name: What to call it: its path in the library, without the ending.
        file: Where it is.
        description: What it shows; "" where it does not say.
        sweep: Whether it is a sweep: many games, for `backfire sweep`.
    """

    name: str
    file: Path
    description: str
    sweep: bool = False


def names() -> dict[str, Path]:
    """Return the files of the library by name, in alphabetical order."""
    files = sorted(FOLDER.rglob("*.yaml"))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def entries() -> list[Entry]:
    """Return what is in the library."""
    return [_entry(name, file) for name, file in names().items()]


def find(scenario: str) -> Path:
    """Return the file that a user means: a name of the library, or a path.

    A scenario in a folder of the library may be called without the folder where its name is
    unique.

    Raises:
        ScenarioError: If it is neither.
    """
    library = names()
    if scenario in library:
        return library[scenario]
    inner = [file for file in library.values() if file.stem == scenario]
    if len(inner) == 1:
        return inner[0]
    path = Path(scenario)
    if path.suffix in _SUFFIXES or path.exists():
        return path
    hint = nearest(scenario, library) or f" (there are {listing(library, 40)})"
    message = f"expected a scenario file or a name of the library, got {shown(scenario)}{hint}"
    raise ScenarioError([LocatedProblem("scenario", None, None, "", message)])


def published_schema() -> dict[str, Any]:
    """Return the JSON schema that was published with this version."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _entry(name: str, file: Path) -> Entry:
    try:
        data = _quickly_read(file)
    except YamlError as error:
        return Entry(name, file, f"(cannot be read: {error.message})")
    data = data if isinstance(data, dict) else {}
    description = data.get("description")
    text = " ".join(description.split()) if isinstance(description, str) else ""
    return Entry(name, file, text, "sweep" in data)


def _quickly_read(file: Path) -> Any:  # noqa: ANN401 - plain data
    """Read a file of ours in C where PyYAML has it; our own reader takes eight times as long.

    Raises:
        YamlError: If it cannot be read.
    """
    text = read_file(file)
    if not yaml.__with_libyaml__:
        return read(text).data
    try:
        return yaml.CSafeLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError):
        return read(text).data  # which says what is wrong in our words
