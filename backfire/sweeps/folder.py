"""The folder of a sweep: one process at a time, cells that are done, files written whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backfire.evidence.long_table import SCORES, SCORES_CSV, SWEEP, write_rows
from backfire.evidence.rows import ScoreRow, rows_of
from backfire.sweeps.cells import finished, folder_of
from backfire.sweeps.workers import Done
from scenarios.sweep.spec import Cell, Sweep
from server.errors import RunFolderError
from server.store.atomic import TEMPORARY, write_bytes, yaml_bytes
from server.store.lock import Lock, Locked
from server.store.run_folder import RunFolder

CELLS: Final = "cells"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep, held by this process until it is closed.

    Attributes:
        path: The folder.
        sweep: What is played in it.
    """

    path: Path
    sweep: Sweep
    _lock: Lock

    @classmethod
    def take(cls, out: Path, sweep: Sweep) -> SweepFolder:
        """Make or take over ``out/<slug>-<first 12 digits of the hash>``; write `sweep.yaml`.

        Raises:
            RunFolderError: If another process plays this sweep, or the folder cannot be written.
        """
        path = out / f"{sweep.slug()}-{sweep.digest()[:12]}"
        try:
            (path / CELLS).mkdir(parents=True, exist_ok=True)
            lock = Lock.take(path)
            for left_over in path.glob(f".*{TEMPORARY}"):
                left_over.unlink(missing_ok=True)
            write_bytes(path / SWEEP, yaml_bytes(sweep.document()))
        except Locked as held:
            raise RunFolderError(
                f"{path}: expected a free sweep folder, but process {held.pid} is playing it; "
                "wait for it, or choose another folder with --out"
            ) from None
        except OSError as error:
            raise _refused(path, error) from None
        return cls(path, sweep, lock)

    def close(self) -> None:
        """Free the folder for other processes."""
        self._lock.release()

    @property
    def cells(self) -> Path:
        """Folder of the cells' run folders."""
        return self.path / CELLS

    def finished(self, cell: Cell) -> bool:
        """Return whether a cell is played and whole."""
        return finished(folder_of(self.cells, cell.scenario), cell.digest)

    def receive(self, cell: Cell, done: Done) -> None:
        """Put the files of a run that was played on another machine into the cell's folder.

        Raises:
            RunFolderError: If the disk refuses.
        """
        if not done.files:
            return
        target = folder_of(self.cells, cell.scenario)
        try:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            # The result comes last: until then the run is not finished.
            for name, data in sorted(done.files, key=lambda item: item[0] == "result.json"):
                write_bytes(target / Path(name).name, data)
        except OSError as error:
            raise _refused(target, error) from None

    def unfinish(self) -> None:
        """Remove the scores, which are those of a finished sweep."""
        for name in (SCORES, SCORES_CSV):
            (self.path / name).unlink(missing_ok=True)

    def write_scores(self) -> list[ScoreRow]:
        """Write the long table of all cells and return it.

        Raises:
            RunFolderError: If a cell is not finished or the disk refuses.
        """
        rows = list(self._rows(self.sweep.cells))
        try:
            write_rows(self.path, self.sweep.spec, rows)
        except OSError as error:
            raise _refused(self.path, error) from None
        return rows

    def _rows(self, cells: Iterable[Cell]) -> Iterable[ScoreRow]:
        for cell in cells:
            path = folder_of(self.cells, cell.scenario)
            yield from rows_of(RunFolder(path).result(), cell.at, path.name)


def _refused(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: expected a folder that can be written, got: {error.strerror or error}; choose "
        "another with --out"
    )
