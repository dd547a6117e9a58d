"""The scores that lie beside a page of Markdown: enough to write the page again, without playing.

`<page>.scores.csv.gz` is the long table of a sweep, all its lines and columns as in `scores.csv`.
The first line is a comment, ``# {...}``: the sweep as it was played, in JSON, but for what is said
about it (`description`, `published`) and the folder of its data set. So the file can tell whether
another sweep plays the same games. Equal tables give equal text, and no time is in it.

Read it with ``pandas.read_csv(file, skiprows=1)``.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from backfire.evidence.long_table import SWEEP, column_types, read_rows, rows_of_table, table_of
from backfire.evidence.rows import ScoreRow
from scenarios.loader import load_sweep, parse_sweep
from scenarios.sweep.spec import Sweep
from scenarios.text.errors import ScenarioError
from scenarios.text.quoting import printable, shown
from server.errors import RunFolderError
from server.store import reading

SUFFIX: Final = ".scores.csv.gz"
MAX_PACKED: Final = 16 * reading.MIB
MAX_TEXT: Final = 512 * reading.MIB
# What is said of the games, and not played.
_WORDS: Final = ("description", "published")
_MOST_TOLD: Final = 3
_LACKING: Final = "expected scores of every game of the sweep, got none of "


@dataclass(frozen=True)
class PageScores:
    """Scores with the sweep that they were played in.

    Attributes:
        sweep: What was played, as plain values (`Sweep.document`).
        rows: The long table.
        data: The scores file.
    """

    sweep: Mapping[str, Any]
    rows: Sequence[ScoreRow]
    data: bytes


def beside(page: Path) -> Path:
    """Return where the scores of a page lie: ``s0-e1-small.md`` has s0-e1-small.scores.csv.gz."""
    return page.with_name(page.stem + SUFFIX)


def pack(sweep: Sweep, rows: Sequence[ScoreRow]) -> PageScores:
    """Return the scores of a finished sweep as a page keeps them."""
    played = _played(sweep.document())
    text = io.BytesIO()
    head = json.dumps(played, separators=(",", ":"))
    text.write(f"# {head}\n".encode())
    pyarrow.csv.write_csv(table_of(sweep.spec, rows), text)
    return PageScores(played, rows, gzip.compress(text.getvalue(), 9, mtime=0))


def read_scores(path: Path, given: Sweep) -> PageScores:
    """Read the scores of a page, or of a sweep's folder, and check that `given` plays those games.

    Args:
        path: A scores file that may come from anybody, or the folder of a finished sweep.
        given: What the page says is played.

    Raises:
        RunFolderError: If it cannot be read, or holds the scores of other games; one line.
    """
    found = _of_folder(path) if (path / SWEEP).is_file() else _of_file(path, given)
    _check_same(path, _sweep_of(found.sweep, given, path), given)
    _check_whole(path, found.rows, given)
    return found


def _of_folder(folder: Path) -> PageScores:
    rows = read_rows(folder)
    try:
        return pack(load_sweep(folder / SWEEP), rows)
    except ScenarioError as error:
        raise RunFolderError(error.lines[0]) from None


def _of_file(path: Path, given: Sweep) -> PageScores:
    data = reading.read_bytes(path, MAX_PACKED)
    head, _, body = _unpacked(path, data).partition(b"\n")
    try:
        played = json.loads(head.removeprefix(b"# "))
        table = pyarrow.csv.read_csv(
            io.BytesIO(body),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=column_types(given.spec), strings_can_be_null=False
            ),
        )
    except (ValueError, RecursionError, pa.ArrowException) as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise RunFolderError(f"{path}: expected the scores of a page, got: {reason}") from None
    if not isinstance(played, dict):
        raise RunFolderError(f"{path}: expected the scores of a page, got no sweep in line 1")
    return PageScores(played, rows_of_table(table, given.spec, path), data)


def _unpacked(path: Path, data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(MAX_TEXT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RunFolderError(f"{path}: expected a gzip file, got: {error}") from None
    if len(text) > MAX_TEXT:
        raise RunFolderError(f"{path}: expected at most {MAX_TEXT} bytes of scores, got more")
    return text


def _played(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a sweep is played, naming no folder of the machine that played it."""
    kept = {key: deepcopy(value) for key, value in document.items() if key not in _WORDS}
    data = kept.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = PurePath(data["path"]).name
    return kept


def _sweep_of(played: Mapping[str, Any], given: Sweep, path: Path) -> Sweep:
    """Return the sweep that was played; `given` itself where it is word for word the same."""
    if played == _played(given.document()):
        return given
    try:
        return parse_sweep(json.dumps(played), str(path))
    except ScenarioError as error:
        raise RunFolderError(error.lines[0]) from None


def _check_same(path: Path, played: Sweep, given: Sweep) -> None:
    if played is given:
        return
    theirs = {(_key(cell.at), cell.seed): cell for cell in played.cells}
    for cell in given.cells:
        found = theirs.get((_key(cell.at), cell.seed))
        if found is None:
            raise RunFolderError(f"{path}: {_LACKING}{printable(cell.title, 120)}")
        pair = (_played(found.scenario.resolved()), _played(cell.scenario.resolved()))
        if told := list(_differences(*pair))[:_MOST_TOLD]:
            raise RunFolderError(
                f"{path}: expected scores of what {printable(given.name, 60)} plays, got those of "
                f"other games: {'; '.join(told)}; play it again"
            )


def _differences(one: object, two: object, place: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            yield from _differences(one.get(key), two.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for k, pair in enumerate(zip(one, two, strict=True)):
            yield from _differences(*pair, f"{place}.{k}")
    elif one != two:
        yield f"{printable(place, 80)} was {shown(one)} and is {shown(two)}"


def _check_whole(path: Path, rows: Sequence[ScoreRow], given: Sweep) -> None:
    there = {(_key(row.at), row.seed) for row in rows}
    wanted = {(_key(cell.at), cell.seed): cell for cell in given.cells}
    if missing := [cell for place, cell in wanted.items() if place not in there]:
        raise RunFolderError(f"{path}: {_LACKING}{printable(missing[0].title, 120)}")
    if there - wanted.keys():
        name = printable(given.name, 60)
        raise RunFolderError(f"{path}: expected scores of what {name} plays, got more games")


def _key(at: Mapping[str, object]) -> tuple[tuple[str, bool, object], ...]:
    """Return a key that tells true from 1, whatever the order of the axes."""
    return tuple((name, isinstance(at[name], bool), at[name]) for name in sorted(at))
