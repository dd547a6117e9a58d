"""Admitted rows on disk: one file for each column of a part, with the rows of all agents.

A file holds nothing but values, agent by agent in the order in which they were asked, in the
machine's byte order and in C order. They are written as they come in and then mapped, so that the
memory of a server does not grow with what its agents hand over. A mapping is private: nobody can
change the file through it, and it does not know the file's name.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from server.errors import RunFolderError
from server.store import reading
from server.wire.admission import Rows, Wanted

SUFFIX = ".rows"


class Disk:
    """A shelf (`server.wire.admission.ContributionStore`) of files in a folder.

    Args:
        folder: Where the files lie.
        part: The first part of their names.
        wanted: What is asked for: the same columns of each agent.
    """

    def __init__(self, folder: Path, part: str, wanted: Sequence[Wanted]) -> None:
        self._columns = wanted[0].columns if wanted else ()
        self.paths = {name: folder / f"{part}.{name}{SUFFIX}" for name, _, _ in self._columns}
        self._wanted = {want.agent: want for want in wanted}
        # By column, the first row of each agent, and the number of all rows.
        self._first: dict[str, dict[str, int]] = {}
        self._rows: dict[str, int] = {}
        for name in self.paths:
            ends = np.cumsum([0, *(want.count(name) for want in wanted)]).tolist()
            self._first[name] = {want.agent: ends[k] for k, want in enumerate(wanted)}
            self._rows[name] = ends[-1]
        self._handles: dict[str, int] = {}

    def put(self, agent: str, start: int, rows: Rows) -> None:
        """Write some rows of an agent, from its row `start` on; see `filled`.

        Raises:
            OSError: If the disk refuses.
        """
        for name, values in rows.items():
            if not values.size:
                continue
            start_here = self._wanted[agent].place(name, start)
            at = (self._first[name][agent] + start_here) * self._width(name)
            _write_at(self._handles[name], np.ascontiguousarray(values).data.cast("B"), at)

    @contextmanager
    def filled(self) -> Iterator[Disk]:
        """Make the files anew, each as long as it is with all agents' rows, to be written to.

        Raises:
            OSError: If the disk refuses.
        """
        try:
            for name, path in self.paths.items():
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                self._handles[name] = os.open(path, flags, 0o666)
                os.ftruncate(self._handles[name], self._rows[name] * self._width(name))
            yield self
        finally:
            for handle in self._handles.values():
                os.close(handle)
            self._handles.clear()

    def sums(self) -> dict[str, str]:
        """Return the SHA-256 (hex) of each column's file.

        Raises:
            RunFolderError: If one is not there or no plain file.
        """
        return {name: _sha256_of(path) for name, path in self.paths.items()}

    def rows(self, agents: Sequence[str]) -> dict[str, Rows]:
        """Return all rows of some agents: mapped, and written to without effect on the files.

        Raises:
            RunFolderError: If a file is not there or has another length.
        """
        whole = {name: self._mapped(name, dtype, shape) for name, dtype, shape in self._columns}
        found: dict[str, Rows] = {}
        for agent in agents:
            found[agent] = {
                name: values[self._first[name][agent] :][: self._wanted[agent].count(name)]
                for name, values in whole.items()
            }
        return found

    def _mapped(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        size = self._rows[name] * self._width(name)
        with reading.plain_file(self.paths[name]) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise RunFolderError(f"{self.paths[name]}: expected {size} bytes, got {found}")
            if not size:
                return np.empty((self._rows[name], *shape), dtype)
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        return np.frombuffer(data, dtype).reshape(self._rows[name], *shape)

    def _width(self, name: str) -> int:
        kinds = {column: (dtype, shape) for column, dtype, shape in self._columns}
        dtype, shape = kinds[name]
        return np.dtype(dtype).itemsize * int(np.prod(shape))


def _write_at(handle: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(handle, data, at)
        data, at = data[done:], at + done


def _sha256_of(path: Path) -> str:
    with reading.plain_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
