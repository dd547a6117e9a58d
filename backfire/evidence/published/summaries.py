"""Summaries of a sweep for pages written by hand: its claims, figures and scores as tables.

A summary is asked for in words, as a marked place of a page has them
(`backfire.sweeps.summary_pages`):

- ``claims --by draw``: the verdicts, a column for each value of an axis that claims end with, such
  as "(draw: per_agent)".
- ``figures --by draw [--score asr_all]``: what the paper prints beside ours, a column for each
  value.
- ``distance --by draw [--score asr_all]``: how far ours are from the paper's figures on average.
- ``scores asr_all asr_alone [--by defender] [--at attackers=5]``: means, a line for each cell. Of
  one score `--by` makes a column for each value of an axis, or each defender.
- ``filters [--at trigger=L]``: rows that filters removed wrongly and poisoned rows that they kept.

``--intervals`` adds intervals to `scores`, ``--paper asr_all`` what the paper prints for a score;
``--digits 1`` gives digits behind the point.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np

from backfire.evidence.estimates import AMOUNT, Estimate, estimate
from backfire.evidence.places import DEFENDER, DefendedCell
from backfire.evidence.published.judging import ClaimLine, ClaimVerdict, FigureLine, PaperBesideOurs
from backfire.evidence.published.sweep_table import SweepTable, spot_key
from backfire.evidence.published.text import spot_words, table_of_cells
from backfire.evidence.series import Series, Setting
from scenarios.text.quoting import printable

_ENDS: Final = re.compile(r" \(([^()]*)\)$")


@dataclass(frozen=True)
class _SummaryAsked:
    """What a summary is asked for, parsed."""

    table: SweepTable
    scores: Sequence[str]
    by: str
    at: Mapping[str, str]
    digits: int
    intervals: bool
    paper: str

    @property
    def side(self) -> PaperBesideOurs:
        if self.table.side is None:
            raise ValueError("expected a sweep with a block published:, got one without")
        return self.table.side


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(printable(message, 200))


def summary(table: SweepTable, words: Sequence[str]) -> str:
    """Return a summary as a table of Markdown.

    Args:
        table: The sweep.
        words: What is asked for, such as ``["claims", "--by", "draw"]``.

    Raises:
        ValueError: If it cannot be understood, or names what the sweep has not; one line.
    """
    kinds: dict[str, Callable[[_SummaryAsked], Iterator[Sequence[str]]]] = {
        "claims": _claims,
        "figures": _figures,
        "distance": _distance,
        "scores": _scores,
        "filters": _filters,
    }
    given = _parsed(words, kinds)
    at = dict(one.partition("=")[::2] for one in given.at)
    named = [*at, *([given.by] if given.by else [])]
    for name in named:
        if name not in (*_axes(table), DEFENDER):
            raise ValueError(f"expected an axis of {printable(table.name)}, got {printable(name)}")
    asked = _SummaryAsked(
        table=table,
        scores=[*given.scores, *given.score],
        by=given.by,
        at=at,
        digits=given.digits,
        intervals=given.intervals,
        paper=given.paper,
    )
    head, *rows = kinds[given.kind](asked)
    if not rows:
        raise ValueError(f"expected something of {printable(table.name)} to show, got nothing")
    return table_of_cells(head, rows)


def _parsed(words: Sequence[str], kinds: Mapping[str, object]) -> Any:  # noqa: ANN401 - argparse
    parser = _Parser(prog="summary", add_help=False, exit_on_error=False)
    parser.add_argument("kind", choices=list(kinds))
    parser.add_argument("scores", nargs="*")
    parser.add_argument("--score", action="append", default=[])
    parser.add_argument("--by", default="")
    parser.add_argument("--at", action="append", default=[])
    parser.add_argument("--digits", type=int, default=0, choices=(0, 1, 2))
    parser.add_argument("--intervals", action="store_true")
    parser.add_argument("--paper", default="")
    try:
        return parser.parse_args(list(words))
    except argparse.ArgumentError as error:
        raise ValueError(printable(str(error), 200)) from None


def _claims(asked: _SummaryAsked) -> Iterator[Sequence[str]]:
    found: dict[str, dict[str, ClaimLine]] = {}
    for line in asked.side.claims:
        text, value = _split(line.claim.text, asked.by)
        found.setdefault(text, {})[value] = line
    values = _seen(asked, found.values())
    yield ["the paper says", *values]
    for text, by_value in found.items():
        yield [text, *(_claim(by_value.get(value), asked) for value in values)]


def _split(text: str, axis: str) -> tuple[str, str]:
    """Return a claim without the value of an axis that it ends with, and that value."""
    end = _ENDS.search(text)
    parts = end[1].split(", ") if end else []
    mine = [part for part in parts if part.startswith(f"{axis}: ")]
    if end is None or not mine:
        return text, ""
    rest = [part for part in parts if part not in mine]
    kept = text[: end.start()] + (f" ({', '.join(rest)})" if rest else "")
    return kept, mine[0].removeprefix(f"{axis}: ")


def _seen(asked: _SummaryAsked, columns: Iterator[Mapping[str, object]] | Any) -> list[str]:  # noqa: ANN401
    """Return the values of the axis in its order; "" (of what names none) comes last."""
    there = {value for found in columns for value in found}
    order = [str(value) for value in _axes(asked.table).get(asked.by, ())]
    return [value for value in (*order, "") if value in there]


def _claim(line: ClaimLine | None, asked: _SummaryAsked) -> str:
    if line is None:
        return "not played"
    if len(line.comparisons) == 1:
        one = line.comparisons[0]
        sides = [(line.claim.first, one.one), (line.claim.than, one.two)]
        means = (side.value if side.score is None else found.value for side, found in sides)
        told = " / ".join(_number(value, asked) for value in means)
    else:
        counts = Counter(one.verdict for one in line.comparisons)
        told = f"{counts[ClaimVerdict.HOLDS]} of {len(line.comparisons)}"
        failed = counts[ClaimVerdict.FAILS]
        told += f", {failed} contradicted" if failed else ""
    return f"{line.verdict} ({told})"


def _figures(asked: _SummaryAsked) -> Iterator[Sequence[str]]:
    lines = list(_figure_lines(asked))
    axes = _varying(asked, [line.spot for _, line in lines if line.spot is not None])
    found: dict[tuple[str, str, str], dict[str, FigureLine]] = {}
    for value, line in lines:
        found.setdefault(_figure_key(line, asked, axes), {})[value] = line
    values = _seen(asked, found.values())
    yield ["score", "place", _paper(asked), *values]
    for key, by_value in found.items():
        ours = (by_value.get(value) for value in values)
        yield [*key, *("–" if one is None else _cell(one.ours, asked) for one in ours)]


def _figure_lines(asked: _SummaryAsked) -> Iterator[tuple[str, FigureLine]]:
    for line in asked.side.figures:
        wanted = not asked.scores or line.figure.score in asked.scores
        if line.spot is not None and wanted and _fits(line.spot, asked):
            yield str(line.spot.value(asked.by)) if asked.by else "", line


def _figure_key(
    line: FigureLine, asked: _SummaryAsked, axes: Sequence[str]
) -> tuple[str, str, str]:
    place = spot_words(line.spot, line.group, [name for name in axes if name != asked.by])
    where, _, defender = place.rpartition("; ")
    place = ", ".join([*([where] if where else []), *([defender] if DEFENDER in axes else [])])
    note = f" ({line.figure.note})" if line.figure.note else ""
    spread = "" if line.figure.spread is None else f" ± {100 * line.figure.spread:.1f}"
    return str(line.figure.score), place + note, f"{100 * line.figure.value:.1f}{spread}"


def _distance(asked: _SummaryAsked) -> Iterator[Sequence[str]]:
    apart: dict[str, list[float]] = {}
    for value, line in _figure_lines(asked):
        if line.ours.value is not None:
            apart.setdefault(value, []).append(abs(line.ours.value - line.figure.value))
    yield [asked.by, "figures", f"mean distance from {_paper(asked)}'s, points"]
    for value in _seen(asked, [apart]):
        yield [value, str(len(apart[value])), f"{100 * np.mean(apart[value]):.1f}"]


def _scores(asked: _SummaryAsked) -> Iterator[Sequence[str]]:
    if not asked.scores:
        raise ValueError("expected scores, such as: scores asr_all asr_alone")
    if asked.by and len(asked.scores) != 1:
        raise ValueError(f"expected one score with --by, got {len(asked.scores)}")
    if asked.by and asked.paper:
        raise ValueError("expected --paper or --by, got both: the paper has one column")
    found = [
        (spot, score, one)
        for score in asked.scores
        for one in asked.table.series(score)
        if _fits(spot := DefendedCell(one.at, one.defender), asked)
    ]
    axes = [n for n in _varying(asked, [spot for spot, _, _ in found]) if n != asked.by]
    lines: dict[tuple[str, ...], dict[str, Series]] = {}
    for spot, score, one in found:
        place = tuple(str(spot.value(name)) for name in axes)
        column = str(spot.value(asked.by)) if asked.by else score
        lines.setdefault(place, {})[column] = one
    columns = list(dict.fromkeys(name for line in lines.values() for name in line))
    printed = _printed(asked, axes)
    yield [*axes, *([_paper(asked)] if printed else []), *columns]
    for place, line in lines.items():
        said = [printed.get(place, "–")] if printed else []
        cells = (line.get(name) for name in columns)
        ours = ("–" if one is None else _cell(one.estimate, asked, one) for one in cells)
        yield [*place, *said, *ours]


def _printed(asked: _SummaryAsked, axes: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Return what the paper prints for the score that `--paper` names, by place."""
    if not asked.paper:
        return {}
    return {
        tuple(str(line.spot.value(name)) for name in axes): f"{100 * line.figure.value:.1f}"
        for line in asked.side.figures
        if line.spot is not None and line.figure.score == asked.paper and _fits(line.spot, asked)
    }


def _paper(asked: _SummaryAsked) -> str:
    """Return how the paper is called: the first word of its source."""
    return asked.side.published.source.partition(",")[0]


def _filters(asked: _SummaryAsked) -> Iterator[Sequence[str]]:
    """Yield the rows lost and kept by each defender's filters together, means of counts."""
    lost: dict[tuple[object, ...], dict[str, dict[int, float]]] = {}
    places: dict[tuple[object, ...], DefendedCell] = {}
    for row in asked.table.rows:
        what = row.score.rpartition(":")[2]
        spot = DefendedCell(row.at, row.defender)
        if row.score.startswith("filter:") and what in _WRONG and _fits(spot, asked):
            key = spot_key(row.at, row.defender)
            places.setdefault(key, spot)
            by_seed = lost.setdefault(key, {}).setdefault(what, {})
            by_seed[row.seed] = by_seed.get(row.seed, 0.0) + (row.hits or 0.0)
    axes = _varying(asked, list(places.values()))
    yield [*axes, *(what.replace("_", " ") for what in _WRONG)]
    for key, found in lost.items():
        counts = [estimate(list(found[what].values()), bounds=AMOUNT) for what in _WRONG]
        yield [*(str(places[key].value(name)) for name in axes), *map(_count, counts)]


_WRONG: Final = ("false_positives", "false_negatives")


def _count(found: Estimate) -> str:
    told = f"{found.value:.0f}"
    if found.low is not None and found.high is not None:
        told += f" [{found.low:.0f}, {found.high:.0f}]"
    return told


def _axes(table: SweepTable) -> dict[str, tuple[Setting, ...]]:
    return {name: axis.coordinates for name, axis in table.spec.axes.items()}


def _varying(asked: _SummaryAsked, spots: Sequence[DefendedCell]) -> list[str]:
    """Return the axes, and the defender, that have several values among some places."""
    names = [*asked.table.axes, DEFENDER]
    return [name for name in names if len({str(spot.value(name)) for spot in spots}) > 1]


def _fits(spot: DefendedCell, asked: _SummaryAsked) -> bool:
    return all(str(spot.value(name)) == value for name, value in asked.at.items())


def _cell(found: Estimate, asked: _SummaryAsked, series: Series | None = None) -> str:
    """Return a mean; of figures, and where intervals are asked for, with its interval."""
    told = _number(found.value, asked, signed=series is not None and series.bounds[0] < 0)
    if series is not None and not asked.intervals:
        return told
    if found.low is not None and found.high is not None:
        return f"{told} [{_number(found.low, asked)}, {_number(found.high, asked)}]"
    if found.heaps is not None:
        return (
            f"{told} (heaps: {_heap(found.heaps.below, asked)}, {_heap(found.heaps.above, asked)})"
        )
    return f"{told} (all alike)" if found.method == "equal" else told


def _heap(values: Sequence[float], asked: _SummaryAsked) -> str:
    ends = dict.fromkeys(_number(value, asked) for value in (values[0], values[-1]))
    return f"{len(values)} at {' to '.join(ends)}"


def _number(value: float | None, asked: _SummaryAsked, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    shown = round(100 * value, asked.digits) + 0.0  # no -0
    return f"{shown:{'+' if signed and shown else ''}.{asked.digits}f}"
