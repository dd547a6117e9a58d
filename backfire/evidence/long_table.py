"""The long table of a sweep on disk: `scores.parquet`, and the same as `scores.csv`.

The axes come first, under their names, then the columns of `scenarios.sweep.spec.COLUMNS`. No times
are in it, so that equal games give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from backfire.evidence.rows import ScoreRow
from scenarios.loader import load_blocks
from scenarios.sweep.spec import COLUMNS, Coordinate, SweepSpec
from scenarios.text.errors import ScenarioError
from server.errors import RunFolderError
from server.store import reading
from server.store.atomic import write_bytes, write_table

SWEEP: Final = "sweep.yaml"
SCORES: Final = "scores.parquet"
SCORES_CSV: Final = "scores.csv"

_TYPES: Final = {
    "seed": pa.int64(),
    "value": pa.float64(),
    "hits": pa.float64(),
    "count": pa.int64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "std": pa.float64(),
    "agents": pa.int64(),
}


def write_rows(folder: Path, spec: SweepSpec, rows: Sequence[ScoreRow]) -> None:
    """Write both tables; `scores.parquet`, which says that the sweep is finished, comes last.

    Raises:
        OSError: If the disk refuses.
    """
    table = table_of(spec, rows)
    text = io.BytesIO()
    pyarrow.csv.write_csv(table, text)
    write_bytes(folder / SCORES_CSV, text.getvalue())
    write_table(folder / SCORES, table)


def table_of(spec: SweepSpec, rows: Sequence[ScoreRow]) -> pa.Table:
    """Return the long table of rows."""
    types = column_types(spec)
    columns = {
        name: pa.array([_as(types[name], row.at[name]) for row in rows], type=types[name])
        for name in spec.axes
    }
    for name in COLUMNS:
        columns[name] = pa.array([getattr(row, name) for row in rows], type=types[name])
    return pa.table(columns)


def column_types(spec: SweepSpec) -> dict[str, pa.DataType]:
    """Return the type of each column of the long table, in order."""
    axes = {name: _type_of(axis.coordinates) for name, axis in spec.axes.items()}
    return axes | {name: _TYPES.get(name, pa.string()) for name in COLUMNS}


def read_rows(folder: Path) -> list[ScoreRow]:
    """Return the long table of a finished sweep.

    Raises:
        RunFolderError: If there is none, or it is not one; one line.
    """
    spec = read_spec(folder)
    path = folder / SCORES
    try:
        with reading.plain_file(path) as file:
            table = pyarrow.parquet.read_table(file)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise RunFolderError(f"{path}: expected a table of scores, got: {reason}") from None
    return rows_of_table(table, spec, path)


def rows_of_table(table: pa.Table, spec: SweepSpec, path: Path) -> list[ScoreRow]:
    """Return the lines of a long table.

    Args:
        table: The table.
        spec: The sweep's axes.
        path: What an error calls the table.

    Raises:
        RunFolderError: If its columns are others than the sweep's.
    """
    wanted = [*spec.axes, *COLUMNS]
    if table.column_names != wanted:
        raise RunFolderError(f"{path}: expected the columns {', '.join(wanted)}, got others")
    named = {
        name: {str(value): value for value in axis.coordinates} for name, axis in spec.axes.items()
    }
    return [
        ScoreRow(
            at={name: _back(named[name], line[name]) for name in spec.axes},
            **{name: line[name] for name in COLUMNS},
        )
        for line in table.to_pylist()
    ]


def read_spec(folder: Path) -> SweepSpec:
    """Return the block ``sweep:`` of a sweep's folder.

    Raises:
        RunFolderError: If there is no sweep, or it cannot be read; one line.
    """
    path = folder / SWEEP
    if not path.is_file():
        raise RunFolderError(f"{folder}: expected the folder of a sweep, got none: no {SWEEP}")
    try:
        return load_blocks(path).sweep
    except ScenarioError as error:
        raise RunFolderError(error.lines[0]) from None


def _type_of(values: Sequence[Coordinate]) -> pa.DataType:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):  # type: ignore[operator]
        return pa.int64()
    return pa.float64() if kinds in ({float}, {int, float}) else pa.string()


def _as(kind: pa.DataType, value: Coordinate) -> Coordinate:
    return str(value) if kind == pa.string() else value


def _back(named: dict[str, Coordinate], value: Coordinate) -> Coordinate:
    """Return a coordinate as the sweep file has it: a column of mixed values is text."""
    return named.get(str(value), value)
