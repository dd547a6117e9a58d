"""Tables of a run or a sweep: the scores that matter most, each with its interval and counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backfire.evidence.estimates import Estimate
from backfire.evidence.named_scores import scores_named, unit_of, value_words
from backfire.evidence.published.sweep_table import SweepTable
from backfire.evidence.rows import ScoreRow, rows_of
from backfire.evidence.series import Series, bounds_of, collect
from backfire.exporting.names import score_words
from backfire.reporting.sweeps.tables import cell_table
from scenarios.text.quoting import printable
from server.referee.findings import is_void
from server.referee.results import Difference, GameResult, GroupScores, Score

# Why a mean over seeds has no interval.
_ABSENT: Final = {"none": "one seed", "equal": "all alike", "heaps": "two heaps"}
_SWEEP_SCORES: Final = ("clean_accuracy", "asr_alone", "interference")
# Names of a row: values of the axes, the defender, the group last.
_Place = tuple[str, ...]


@dataclass(frozen=True)
class ScoreCell:
    """A score in a table.

    Attributes:
        value: In per cent or points, such as ``40.7`` or ``-1.9``; "" where it was not scored.
        reach: Its interval, such as ``31.9 to 50.1``; else why there is none;
            "" for nothing.
        count: ``44/108`` inputs, ``n = 5`` seeds; "" for nothing.
    """

    value: str = ""
    reach: str = ""
    count: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """A table for a paper.

    Attributes:
        title: What it is of.
        caption: What its numbers mean.
        labels: Heads of the columns of names.
        heads: Heads of the columns of scores.
        rows: For each row its names, foreign text, and its cells.
    """

    title: str
    caption: str
    labels: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[ScoreCell]]]


def table_of_run(result: GameResult) -> ScoreTable:
    """Return a row for each defender and group of attackers, ASR beside its controls."""
    return ScoreTable(
        f"{printable(result.scenario, 80)}, seed {result.seed}",
        "All figures in %, interference in points. Brackets: 95 % intervals over inputs of this "
        "one game; fractions: inputs that count of all inputs. ASR is of all agents of the group; "
        "together, alone, untrained and interference (alone less together) are of the agents that "
        "were also played alone.",
        ("defender", "attackers"),
        (
            "clean accuracy",
            "without attackers",
            "ASR",
            "together",
            "alone",
            "untrained",
            "interference",
        ),
        list(_run_rows(result)),
    )


def table_of_run_scores(result: GameResult, scores: Sequence[str]) -> ScoreTable:
    """Return a row for each defender and group of attackers, and a column for each score named.

    Args:
        result: The game's.
        scores: As for `scores_named`.

    Raises:
        UsageError: If a score is not there; one line.
    """
    rows = [row for row in rows_of(result, {}, "") if not row.agent and row.value is not None]
    names = scores_named(scores, (row.score for row in rows))
    cells: dict[tuple[_Place, str], ScoreCell] = {
        ((row.defender, row.group), row.score): _line(row) for row in rows
    }
    return ScoreTable(
        f"{printable(result.scenario, 80)}, seed {result.seed}",
        "Figures in % or points where no unit is named. Brackets: 95 % intervals over inputs of "
        "this one game; fractions: inputs that count of all inputs. Scores of a defender itself "
        "stand in each of its rows.",
        ("defender", "attackers"),
        list(map(_head, names)),
        [
            (tuple(printable(part, 64) for part in place), _cells(place, names, cells))
            for place in _places(key for key in cells if key[1] in names)
        ],
    )


def _head(score: str) -> str:
    unit = unit_of(score)
    return score_words(score) + (f" ({unit})" if unit else "")


def _places(keys: Iterable[tuple[_Place, str]]) -> list[_Place]:
    """Return the rows' places; a defender's own scores have one only where it has no group."""
    places = list(dict.fromkeys(place for place, _ in keys))
    grouped = {place[:-1] for place in places if place[-1]}
    return [place for place in places if place[-1] or place[:-1] not in grouped]


def _cells(
    place: _Place, scores: Sequence[str], cells: Mapping[tuple[_Place, str], ScoreCell]
) -> list[ScoreCell]:
    own = (*place[:-1], "")
    return [cells.get((place, name), cells.get((own, name), ScoreCell())) for name in scores]


def _line(row: ScoreRow) -> ScoreCell:
    """Return the cell of a line of the long table that has a value."""
    signed = bounds_of(row.score)[0] < 0
    reach = ""
    if row.low is not None and row.high is not None:
        ends = (value_words(row.score, end, signed=signed) for end in (row.low, row.high))
        reach = " to ".join(ends)
    count = f"n = {row.count}" if row.hits is None else f"{round(row.hits, 1):g}/{row.count}"
    value = value_words(row.score, row.value or 0.0, signed=signed)
    return ScoreCell(value, reach, count if row.count else "")


def _run_rows(result: GameResult) -> Iterator[tuple[Sequence[str], Sequence[ScoreCell]]]:
    for name, scores in result.defenders.items():
        own = [_share(scores.clean_accuracy), _share(scores.clean_accuracy_attacker_free)]
        for group, found in scores.groups.items():
            yield (printable(name, 64), printable(group, 64)), [*own, *_group(found)]
        if not scores.groups:
            yield (printable(name, 64), ""), [*own, *[ScoreCell()] * 5]


def _group(scores: GroupScores) -> list[ScoreCell]:
    asr, own = _share(scores.asr.pooled), scores.comparison
    if own is None:
        control = None if scores.asr_untrained is None else scores.asr_untrained.pooled
        return [asr, ScoreCell(), ScoreCell(), _share(control), ScoreCell()]
    gap = ScoreCell("void") if is_void(scores) else _difference(own.interference)
    return [asr, _share(own.together), _share(own.alone), _share(own.untrained), gap]


def _share(score: Score | None) -> ScoreCell:
    if score is None or score.value is None:
        return ScoreCell()
    reach = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
    return ScoreCell(f"{100 * score.value:.1f}", reach, f"{round(score.hits, 1):g}/{score.count}")


def _difference(gap: Difference) -> ScoreCell:
    if gap.value is None:
        return ScoreCell()
    reach = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
    return ScoreCell(f"{100 * gap.value:+.1f}", reach, f"n = {gap.count}")


def table_of_sweep(table: SweepTable) -> ScoreTable:
    """Return a row for each cell and defender: means over seeds of the scores that matter most."""
    found = cell_table(table)
    wanted = (_SWEEP_SCORES[0], table.main, *_SWEEP_SCORES[1:])
    kept = [k for k, name in enumerate(found.columns) if name in wanted]
    varying = [k for k, name in enumerate(found.axes) if len(table.axes.get(name, ())) > 1]
    rows = [
        (
            [*(printable(str(at[k]), 64) for k in varying), printable(defender, 64)],
            [_mean(scores[k]) for k in kept],
        )
        for at, defender, scores in found.rows
    ]
    left_out = f" {found.more} more rows stand in scores.csv." if found.more else ""
    return ScoreTable(
        printable(table.name, 80),
        "Means over seeds, all figures in %, interference in points. Brackets: 95 % intervals of "
        "the mean over seeds (Student's t), or why there is none: one seed, seeds all alike, seeds "
        f"in two heaps; n: seeds.{left_out}",
        [*(printable(found.axes[k], 64) for k in varying), "defender"],
        [score_words(found.columns[k]) for k in kept],
        rows,
    )


def table_of_sweep_scores(table: SweepTable, scores: Sequence[str]) -> ScoreTable:
    """Return a row for each cell, defender and group, and a column for each score named.

    Args:
        table: The sweep's.
        scores: As for `scores_named`.

    Raises:
        UsageError: If a score is not there; one line.
    """
    names = scores_named(scores, table.scores)
    axes = [name for name, values in table.axes.items() if len(values) > 1]
    cells = {
        ((*(str(one.at[name]) for name in axes), one.defender, one.group), name): _mean(one)
        for name in names
        for one in collect(table.rows, name)
        if one.values
    }
    return ScoreTable(
        printable(table.name, 80),
        "Means over seeds, figures in % or points where no unit is named. Brackets: 95 % intervals "
        "of the mean over seeds, or why there is none: one seed, seeds all alike, seeds in two "
        "heaps; n: seeds. Scores of a defender itself stand in each of its rows.",
        [*(printable(name, 64) for name in axes), "defender", "attackers"],
        list(map(_head, names)),
        [
            ([printable(part, 64) for part in place], _cells(place, names, cells))
            for place in _places(cells)
        ],
    )


def _mean(series: Series | None) -> ScoreCell:
    if series is None or series.estimate.value is None:
        return ScoreCell()
    found: Estimate = series.estimate
    signed = series.bounds[0] < 0
    reach = _ABSENT.get(found.method, "")
    if found.low is not None and found.high is not None:
        ends = (value_words(series.score, end, signed=signed) for end in (found.low, found.high))
        reach = " to ".join(ends)
    value = value_words(series.score, found.value or 0.0, signed=signed)
    return ScoreCell(value, reach, f"n = {found.n}")
