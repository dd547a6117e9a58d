"""Tables of a run or a sweep: the scores that matter most, each with its interval and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from backfire.evidence.estimates import Estimate
from backfire.evidence.published.sweep_table import SweepTable
from backfire.evidence.series import Series
from backfire.exporting.names import score_words
from backfire.reporting.sweeps.tables import cell_table
from scenarios.text.quoting import printable
from server.referee.findings import is_void
from server.referee.results import Difference, GameResult, GroupScores, Score

# Why a mean over seeds has no interval.
_ABSENT: Final = {"none": "one seed", "equal": "all alike", "heaps": "two heaps"}
_SWEEP_SCORES: Final = ("clean_accuracy", "asr_alone", "interference")


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


def _mean(series: Series | None) -> ScoreCell:
    if series is None or series.estimate.value is None:
        return ScoreCell()
    found: Estimate = series.estimate
    signed = series.bounds[0] < 0
    value = 100 * (found.value or 0.0)
    reach = _ABSENT.get(found.method, "")
    if found.low is not None and found.high is not None:
        form = "+.1f" if signed else ".1f"
        reach = f"{100 * found.low:{form}} to {100 * found.high:{form}}"
    return ScoreCell(f"{value:+.1f}" if signed else f"{value:.1f}", reach, f"n = {found.n}")
