"""The long table as CSV: a line for each score, with its interval and counts, as fractions of 1."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Final

from backfire.evidence.published.sweep_table import SweepTable
from backfire.evidence.rows import ScoreRow, rows_of
from backfire.evidence.series import collect
from server.referee.results import GameResult

_RUN: Final = tuple(field.name for field in fields(ScoreRow) if field.name not in ("at", "cell"))
_MEAN: Final = (
    "defender", "group", "agent", "score", "mean", "low", "high", "method", "seeds", "std", "agents"
)  # fmt: skip


def csv_of_run(result: GameResult) -> str:
    """Return each score of each agent, group and defender of a game."""
    rows = rows_of(result, {}, "")
    return _text(_RUN, ([getattr(row, name) for name in _RUN] for row in rows))


def csv_of_sweep(table: SweepTable) -> str:
    """Return each score of each group and defender of each cell: its mean over seeds.

    `std` is over seeds. The scores of single seeds and agents are in the sweep's `scores.csv`.
    """
    axes = list(table.rows[0].at) if table.rows else []
    return _text([*axes, *_MEAN], _means(table, axes))


def _means(table: SweepTable, axes: Sequence[str]) -> Iterator[Sequence[object]]:
    for score in table.scores:
        for one in collect(table.rows, score):
            found = one.estimate
            head = [*(one.at[name] for name in axes), one.defender, one.group, one.agent, score]
            ends = [found.value, found.low, found.high, found.method, found.n, found.std]
            yield [*head, *ends, one.agents]


def _text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
