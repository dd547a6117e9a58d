"""Writes the figures and tables of a folder, a run's or a sweep's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from backfire.errors import UsageError
from backfire.evidence.long_table import SWEEP
from backfire.evidence.published.sweep_table import read_sweep
from backfire.evidence.published.text import table_of_cells
from backfire.exporting.csv_text import csv_of_run, csv_of_sweep
from backfire.exporting.drawing import Format, draw, need_figures
from backfire.exporting.figures import ExportFigure
from backfire.exporting.latex import latex
from backfire.exporting.names import file_name, numbered
from backfire.exporting.run_figures import run_figures
from backfire.exporting.score_tables import (
    ScoreCell,
    ScoreTable,
    table_of_run,
    table_of_run_scores,
    table_of_sweep,
    table_of_sweep_scores,
)
from backfire.exporting.sweep_figures import sweep_figures
from scenarios.text.quoting import listing, nearest, printable
from server.errors import RunFolderError
from server.store.atomic import write_bytes
from server.store.run_folder import RunFolder

TableFormat = Literal["latex", "csv", "markdown"]
TABLE: Final = "scores"
_ENDINGS: Final = {"latex": "tex", "csv": "csv", "markdown": "md"}


@dataclass(frozen=True)
class Exportable:
    """What can be taken from a folder.

    Attributes:
        name: The folder's.
        figures: Its figures, by name.
        table: Its main scores, or those that were asked for.
        lines: All its scores as CSV.
    """

    name: str
    figures: dict[str, ExportFigure]
    table: ScoreTable
    lines: Callable[[], str]


def export(
    folder: Path,
    out: Path,
    figures: Sequence[Format] = (),
    tables: Sequence[TableFormat] = (),
    only: Sequence[str] = (),
    scores: Sequence[str] = (),
) -> list[Path]:
    """Write figures, each with its caption beside it as text, and tables; return their paths.

    The same folder gives the same bytes, with the same version of Matplotlib.

    Args:
        folder: Of a finished run or sweep.
        out: Folder to write into; made where it is missing. Files of the same names are replaced.
        figures: Formats of figures.
        tables: Formats of tables.
        only: Names of the figures to write; none for all.
        scores: Scores that LaTeX and Markdown tables show, as `scores_named` takes them; none for
            the main ones. CSV always holds all.

    Raises:
        UsageError: If no format is named, or a figure or a score that is not there.
        FiguresMissingError: If figures are wanted and Matplotlib is not installed.
        RunFolderError: If the folder holds nothing finished, or `out` cannot be written; one line.
    """
    if not figures and not tables:
        raise UsageError(
            "expected what to export: --figure pdf, svg or png, or --table latex, csv or markdown"
        )
    if figures:
        need_figures()
    if scores and not {"latex", "markdown"} & set(tables):
        raise UsageError(
            "expected --table latex or markdown beside --score: it chooses their columns, and CSV "
            "holds every score"
        )
    found = exportable(folder, scores)
    chosen = _chosen(found, only)
    written = [*_figures(chosen, figures), *_tables(found, tables)]
    return [_write(out, f"{found.name}-{name}", data) for name, data in written]


def exportable(folder: Path, scores: Sequence[str] = ()) -> Exportable:
    """Read what a folder holds.

    Args:
        folder: Of a finished run or sweep.
        scores: Scores of the table; none for the main ones.

    Raises:
        UsageError: If a score is not there; one line.
        RunFolderError: If it holds no finished run or sweep; one line.
    """
    name = file_name(folder.resolve().name)
    if (folder / SWEEP).is_file():
        table = read_sweep(folder)[1]
        figures, lines = sweep_figures(table), partial(csv_of_sweep, table)
        shown = table_of_sweep_scores(table, scores) if scores else table_of_sweep(table)
        return Exportable(name, _named(figures), shown, lines)
    result = RunFolder.open(folder).result()
    lines = partial(csv_of_run, result)
    shown = table_of_run_scores(result, scores) if scores else table_of_run(result)
    return Exportable(name, _named(run_figures(result)), shown, lines)


def _named(figures: Sequence[ExportFigure]) -> dict[str, ExportFigure]:
    names = numbered([figure.name for figure in figures])
    return dict(zip(names, figures, strict=True))


def _chosen(found: Exportable, only: Sequence[str]) -> dict[str, ExportFigure]:
    for name in only:
        if name not in found.figures:
            there = listing(found.figures) or "none"
            raise UsageError(
                f"expected a figure of {found.name} after --only, got '{printable(name, 60)}'"
                f"{nearest(name, found.figures)}; there are: {there}"
            )
    return {name: one for name, one in found.figures.items() if not only or name in only}


def _figures(
    chosen: dict[str, ExportFigure], formats: Sequence[Format]
) -> Iterator[tuple[str, bytes]]:
    for name, figure in chosen.items() if formats else ():
        for form in dict.fromkeys(formats):
            yield f"{name}.{form}", draw(figure, form)
        yield f"{name}.txt", f"{figure.caption}\n".encode()


def _tables(found: Exportable, formats: Sequence[TableFormat]) -> Iterator[tuple[str, bytes]]:
    for form in dict.fromkeys(formats):
        if form == "csv":
            text = found.lines()
        else:
            text = latex(found.table) if form == "latex" else markdown(found.table)
        yield f"{TABLE}.{_ENDINGS[form]}", text.encode()


def markdown(table: ScoreTable) -> str:
    """Return a table as Markdown, its caption below."""
    rows = [[*names, *map(_words, cells)] for names, cells in table.rows]
    body = table_of_cells([*table.labels, *table.heads], rows)
    return f"{body}\n\n{table.title}. {table.caption}\n"


def _words(cell: ScoreCell) -> str:
    if not cell.value:
        return "–"
    reach = f" [{cell.reach}]" if cell.reach else ""
    return cell.value + reach + (f", {cell.count}" if cell.count else "")


def _write(out: Path, name: str, data: bytes) -> Path:
    path = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    except OSError as error:
        raise RunFolderError(
            f"{path}: expected a file that can be written, got: {error.strerror or error}; choose "
            "another folder with --out"
        ) from None
    return path
