"""Two folders side by side, each that of a finished run or sweep: see `paired_runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backfire.evidence.long_table import SWEEP, read_rows
from backfire.evidence.paired_runs import ComparedRuns, compare_runs
from backfire.evidence.rows import ScoreRow, rows_of
from scenarios.text.quoting import printable
from server.store.reading import read_scenario
from server.store.run_folder import RunFolder


def compare_folders(first: Path, second: Path) -> ComparedRuns:
    """Set two runs, two sweeps, or a run and a sweep beside each other.

    Args:
        first: The folder that differences are taken from.
        second: The folder whose scores are taken away.

    Raises:
        RunFolderError: If one holds no finished run or sweep, or was damaged; one line.
    """
    one, other = _name(first), _name(second)
    if one == other:
        one, other = printable(str(first), 120), printable(str(second), 120)
    return compare_runs((one, *_read(first)), (other, *_read(second)))


def _name(folder: Path) -> str:
    return printable(folder.resolve().name, 120)


def _read(folder: Path) -> tuple[Sequence[ScoreRow], Mapping[str, Any]]:
    if (folder / SWEEP).is_file():
        return read_rows(folder), read_scenario(folder / SWEEP)
    run = RunFolder.open(folder)
    return rows_of(run.result(), {}, folder.resolve().name), run.scenario()
