"""The numbers that a sweep ends with: its main scores, a row for each cell and defender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scenarios.text.quoting import printable

if TYPE_CHECKING:
    from backfire.evidence.published.sweep_table import SweepTable
    from backfire.exporting.score_tables import ScoreCell

_ROWS: Final = 24


def show_scores(table: SweepTable, console: Console) -> None:
    """Print the means over seeds with their intervals, then what the sweep says first.

    Args:
        table: The finished sweep.
        console: Where to print.
    """
    from backfire.exporting.score_tables import table_of_sweep
    from backfire.reporting.sweeps.tables import told

    found = table_of_sweep(table)
    seeds = "1 seed" if len(table.seeds) == 1 else f"{len(table.seeds)} seeds"
    title = Text(f"{found.title}: means over {seeds} [95 % interval]; all figures in %")
    drawn = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False
    )
    for name in found.labels:
        drawn.add_column(Text(name), overflow="fold")
    for name in found.heads:
        drawn.add_column(Text(name), justify="right", overflow="fold")
    for names, cells in found.rows[:_ROWS]:
        drawn.add_row(*map(Text, names), *map(_cell, cells))
    console.print(drawn)
    if len(found.rows) > _ROWS:
        console.print(Text(f"{len(found.rows) - _ROWS} more rows stand in the report."))
    for line in told(table)[:1]:
        console.print(Text(printable(line, 600)))


def _cell(cell: ScoreCell) -> Text:
    if not cell.value:
        return Text("-")
    if " to " not in cell.reach:
        return Text(cell.value)
    return Text(f"{cell.value}\n[{cell.reach.replace(' to ', ', ')}]")
