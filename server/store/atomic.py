"""Files that are never torn: a reader finds the old file or the new one.

Data go to a temporary name in the same folder, are flushed to the disk and renamed; then the
folder itself is flushed. Where anything fails the temporary file is removed and the old file is
left byte for byte as it was.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import yaml
from pydantic_core import to_json
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

TEMPORARY = ".tmp"

# PyYAML itself quotes words such as `no`, which YAML 1.1 reads as a boolean.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`; on success it takes the place of `path`.

    Raises:
        OSError: If the disk refuses; `path` is then what it was before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    mode = os.fstat(handle).st_mode
    os.close(handle)
    try:
        yield temporary
        # Some writers make a file that nobody else may read.
        temporary.chmod(mode)
        _flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file."""
    write_chunks(path, (data,))


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a whole file that is made piece by piece."""
    with replacing(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY)
        try:
            for chunk in chunks:
                _write_all(handle, chunk)
        finally:
            os.close(handle)


def json_bytes(value: object, indent: int | None = 2) -> bytes:
    """Return JSON; numbers that JSON lacks become the strings "NaN", "Infinity", "-Infinity"."""
    return to_json(value, indent=indent, inf_nan_mode="strings") + b"\n"


def yaml_bytes(value: Mapping[str, Any]) -> bytes:
    """Return plain values as YAML that our reader reads back: keys in their order, no aliases."""
    text = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)
    return str(text).encode()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; each is made contiguous and owns its memory."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(own, temporary)
        except SafetensorError as error:
            raise OSError(f"{path.name} could not be written: {error}") from None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet."""
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records as lines of JSON, all or none of them.

    A last line that an earlier crash left unfinished is cut off first.
    """
    data = b"".join(json_bytes(record, indent=None) for record in records)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = _end_of_lines(handle)
        os.ftruncate(handle, end)
        os.lseek(handle, end, os.SEEK_SET)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)


class _Plain(yaml.SafeDumper):
    """Quotes every text that some version of YAML might read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if _WORD.fullmatch(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _Plain.represent_text)


def _write_all(handle: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _end_of_lines(handle: int) -> int:
    """Return the offset behind the last complete line."""
    end = os.lseek(handle, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65_536)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
