"""Reading the files of a run folder, none of which is trusted.

Sizes are looked at before contents, only plain files are read, and what they hold is data.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open

from learning.pool import Floats
from scenarios.digest import digest_of
from scenarios.text import yaml_reader
from scenarios.text.quoting import printable
from server.errors import RunFolderError
from server.referee.results import GameResult

MIB = 1 << 20
MAX_RESULT = 256 * MIB
MAX_SMALL = 4 * MIB
MAX_ROUNDS = 1024 * MIB
MAX_GALLERY = 256 * MIB
MAX_IMAGE_SIDE = 4096
MAX_TENSORS = 10_000
# Key of environment.json: the methods that are not of this house.
PLUGINS = "plugins"

_SHA256 = re.compile(r"[0-9a-f]{64}")


def short(text: object, limit: int = 200) -> str:
    """Return foreign text on one line, without anything that steers a terminal."""
    return printable(str(text), limit)


@contextmanager
def plain_file(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading; a link, a pipe or a device is refused.

    Raises:
        RunFolderError: If it is not there, not a plain file or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise RunFolderError(f"{path}: expected a file, got: {error.strerror or error}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RunFolderError(f"{path}: expected a file, got a folder, a pipe or a device")
    with os.fdopen(handle, "rb") as file:
        yield file


def read_bytes(path: Path, limit: int) -> bytes:
    """Return a file's content.

    Raises:
        RunFolderError: If it is larger than `limit` bytes or not a plain file.
    """
    with plain_file(path) as file:
        data = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else b""
        size = max(len(data), os.fstat(file.fileno()).st_size)
    if size > limit:
        raise RunFolderError(f"{path}: expected at most {limit} bytes, got {size}")
    return data


def read_mapping(path: Path) -> dict[str, Any]:
    """Return a small JSON file that holds a mapping."""
    return _mapping(path, read_bytes(path, MAX_SMALL))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file; an unfinished last line is left out."""
    whole, _, _ = read_bytes(path, MAX_ROUNDS).rpartition(b"\n")
    return [_mapping(path, line) for line in whole.splitlines()]


def _mapping(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise RunFolderError(f"{path}: expected JSON, got: {short(error)}") from None
    if not isinstance(value, dict):
        raise RunFolderError(f"{path}: expected a mapping, got {type(value).__name__}")
    return value


def read_checksums(path: Path) -> dict[str, str]:
    """Return the SHA-256 (hex) of each file by its name."""
    sums = read_mapping(path)
    for name, value in sums.items():
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise RunFolderError(f"{path}: expected a SHA-256 for {short(name, 40)!r}")
    return sums


def read_result(path: Path) -> GameResult:
    """Return the validated result of a game."""
    data = read_bytes(path, MAX_RESULT)
    try:
        return GameResult.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(
            f"{path}: expected the result of a game, got a problem at "
            f"{short(where, 80) or 'the top'}: {short(first['msg'])}"
        ) from None


def read_scenario(path: Path) -> dict[str, Any]:
    """Return a resolved scenario as plain values."""
    try:
        data = yaml_reader.read(yaml_reader.decode(read_bytes(path, MIB))).data
    except yaml_reader.YamlError as error:
        raise RunFolderError(f"{path}:{error.line or 1}: {short(error.message)}") from None
    if not isinstance(data, dict):
        raise RunFolderError(f"{path}: expected a mapping, got {type(data).__name__}")
    return data


def scenario_digest(path: Path, surroundings: Path) -> str:
    """Return the hash of the game that a run is of.

    Args:
        path: The file of its resolved scenario.
        surroundings: The file that says which plug-ins it was played with; need not be there.
    """
    found = read_mapping(surroundings) if surroundings.exists() else {}
    plugins = found.get(PLUGINS, [])
    if not isinstance(plugins, list):
        raise RunFolderError(f"{surroundings}: expected a list of {PLUGINS}, got something else")
    return digest_of(read_scenario(path), plugins)


def read_images(path: Path) -> dict[str, Floats]:
    """Return tensors of images, float32 (k, C, H, W), by name."""
    with plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size > MAX_GALLERY:
        raise RunFolderError(f"{path}: expected at most {MAX_GALLERY} bytes, got {size}")
    try:
        with safe_open(path, framework="np") as tensors:
            names = sorted(tensors.keys())[:MAX_TENSORS]
            return {name: _image(path, name, tensors.get_tensor(name)) for name in names}
    except SafetensorError as error:
        raise RunFolderError(f"{path}: expected safetensors, got: {short(error)}") from None


def _image(path: Path, name: str, value: NDArray[Any]) -> Floats:
    found = f"{value.dtype} {value.shape}"
    if value.dtype != np.float32 or value.ndim != 4 or max(value.shape) > MAX_IMAGE_SIDE:
        raise RunFolderError(
            f"{path}: expected float32 (k, C, H, W) as {short(name, 80)!r}, got {found}"
        )
    return np.asarray(value, dtype=np.float32)
