"""The result of a game on a terminal: each score beside its controls, then the finding.

Names come from scenarios and are foreign text: they are escaped and never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scenarios.text.quoting import printable
from server.referee.findings import is_void
from server.referee.registry import asked_score, head_of
from server.referee.results import (
    DefenderScores,
    DetectionScores,
    Difference,
    GameResult,
    GroupScores,
    GroupValue,
    Quantity,
    QuantitySummary,
    Score,
    ScoreValue,
    Summary,
)
from server.referee.verdict import ASK_FOR_REPEATS

if TYPE_CHECKING:
    from backfire.evidence.published.sweep_table import SweepTable
    from backfire.exporting.score_tables import ScoreCell

_QUARANTINES = 10
_SWEEP_ROWS = 24
_NONE = "-"
_VOID = "void"


def show(result: GameResult, report: Path | None, console: Console) -> None:
    """Print a result.

    Args:
        result: What was scored.
        report: Path of the HTML report, where there is one.
        console: Where to print.
    """
    console.print(scores_table(result))
    for line in (
        *_asked(result),
        *_adversarial(result),
        *_filters(result),
        *_detection(result),
        *_notes(result),
        *_quarantined(result),
    ):
        console.print(Text(line))
    console.print(Text("\n" + printable(result.verdict[0]), style="bold"))
    if ASK_FOR_REPEATS in result.verdict:
        console.print(Text(ASK_FOR_REPEATS))
    if report is not None:
        console.print(Text(f"Report: {printable(str(report))}"), soft_wrap=True)


def scores_table(result: GameResult) -> Table:
    """Return the table: a row for each defender and malicious group, all figures in percent.

    The first ASR is that of all agents of the group. All behind it are of those that were also
    played alone, and add up: interference is alone - together, above its 95 % interval.
    """
    title = Text(f"{printable(result.scenario)}, seed {result.seed}; all figures in %")
    # Narrow enough for 80 columns and names of ten letters.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("defender", overflow="fold")
    table.add_column("clean\nacc.", justify="right")
    table.add_column("no\nattack", justify="right")
    table.add_column("attackers", overflow="fold")
    table.add_column("ASR", justify="right")
    parts = any(own.asr_part for d in result.defenders.values() for own in d.groups.values())
    if parts:
        table.add_column("own\npart", justify="right")
    sampled = any(
        own.comparison is not None and own.comparison.agents < own.comparison.of
        for d in result.defenders.values()
        for own in d.groups.values()
    )
    if sampled:
        table.add_column("alone:\nof", justify="right")
    table.add_column("to-\ngether", justify="right")
    table.add_column("alone", justify="right")
    table.add_column("un-\ntrained", justify="right")
    table.add_column("inter-\nference", justify="right")
    for name, scores in result.defenders.items():
        for row, (group, own) in enumerate(scores.groups.items() or [("", None)]):
            head = _head(name, scores) if row == 0 else ["", "", ""]
            last = row == max(0, len(scores.groups) - 1)
            cells = [*head, printable(group, 64), *_group(own, parts, sampled)]
            table.add_row(*map(Text, cells), end_section=last)
    return table


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal, ``-`` for None."""
    return _NONE if value is None else f"{100 * value:.1f}"


def _head(name: str, scores: DefenderScores) -> list[str]:
    clean, free = scores.clean_accuracy, scores.clean_accuracy_attacker_free
    return [printable(name, 64), percent(clean.value), _value(free)]


def _group(scores: GroupScores | None, parts: bool, sampled: bool) -> list[str]:
    """Return a group's cells; behind the first all are of the agents that were played alone."""
    if scores is None:
        return [_NONE] * (5 + parts + sampled)
    own = [percent(scores.asr.pooled.value)]
    if parts:
        own.append(_pooled(scores.asr_part))
    compared = scores.comparison
    if compared is None:
        return [*own, *([_NONE] * (2 + sampled)), _pooled(scores.asr_untrained), _NONE]
    if sampled:
        own.append(f"{compared.agents}/{compared.of}")
    control = _value(compared.untrained)
    together, alone = _value(compared.together), _value(compared.alone)
    gap = _VOID if is_void(scores) else _difference(compared.interference)
    return [*own, together, alone, control, gap]


def _pooled(summary: Summary | None) -> str:
    return _NONE if summary is None else percent(summary.pooled.value)


def _value(score: Score | None) -> str:
    return _NONE if score is None else percent(score.value)


def _difference(gap: Difference | None) -> str:
    """Return a difference above its interval, in whole points so that the table stays narrow."""
    if gap is None or gap.value is None:
        return _NONE
    return f"{100 * gap.value:+.1f}\n[{100 * gap.low:.0f}, {100 * gap.high:.0f}]"


def _asked(result: GameResult) -> Iterator[str]:
    """Yield what the scenario asked for: a line for each score, of defenders and of groups."""
    for name, scores in result.defenders.items():
        for score, value in scores.more.items():
            head = printable(head_of(score, result.asked), 100)
            yield f"{printable(name, 64)}: {head} {_asked_value(value)}"
        for group, own in scores.groups.items():
            for score, found in own.more.items():
                head = printable(head_of(score, result.asked), 100)
                whose = f"{printable(name, 64)}, {printable(group, 64)}"
                yield f"{whose}: {head} {_asked_value(found)}"
        yield from _of_all(name, scores, result)


def _of_all(name: str, scores: DefenderScores, result: GameResult) -> Iterator[str]:
    """Yield the scores of all attackers of several groups that are no means over agents."""
    if scores.malicious is None or len(scores.groups) < 2:
        return
    for score, found in scores.malicious.more.items():
        told = asked_score(score, result.asked)
        if told is not None and told.of == "group":
            head = printable(head_of(score, result.asked), 100)
            yield f"{printable(name, 64)}, all attackers: {head} {_asked_value(found)}"


def _asked_value(value: ScoreValue | GroupValue) -> str:
    """Return a value with its interval or, over agents, with how many there are."""
    if isinstance(value, Quantity):
        ends = (
            ""
            if value.low is None or value.high is None
            else f" [{value.low:.4g}, {value.high:.4g}]"
        )
        return _amount(value.value, value.unit, value.at_least) + ends
    if isinstance(value, QuantitySummary):
        mean = _amount(value.mean, value.unit, value.at_least > 0)
        return f"{mean} (mean of {value.agents} agents)"
    share = value.pooled if isinstance(value, Summary) else value
    if share.value is None:
        return "no inputs"
    return f"{percent(share.value)} % [{percent(share.low)}, {percent(share.high)}]"


def _amount(value: float | None, unit: str, at_least: bool) -> str:
    if value is None:
        return _NONE
    return f"{'at least ' if at_least else ''}{value:.4g} {printable(unit, 20)}".rstrip()


def _adversarial(result: GameResult) -> Iterator[str]:
    titles = dict.fromkeys(
        title for scores in result.defenders.values() for title in scores.adversarial_accuracy
    )
    for title in titles:
        values = ", ".join(
            f"{printable(name, 64)} {_value(scores.adversarial_accuracy.get(title))}"
            for name, scores in result.defenders.items()
        )
        yield f"Adversarial accuracy under {printable(title)}: {values}"


def _filters(result: GameResult) -> Iterator[str]:
    for name, scores in result.defenders.items():
        for one in scores.filters:
            yield (
                f"{printable(name, 64)}: {printable(one.kind)} removed {one.removed} rows, "
                f"{one.true_positives} of the {one.poisoned} poisoned ones (precision "
                f"{_value(one.precision)}, recall {_value(one.recall)})"
            )


def _detection(result: GameResult) -> Iterator[str]:
    for name, rounds in result.rounds.items():
        shown = printable(name, 64)
        scores = result.defenders.get(name)
        if scores is not None and scores.detection is not None:
            yield f"{shown}: {_judgement(scores.detection)}"
        skipped = sum(entry.skipped for entry in rounds)
        fallbacks = sum(bool(entry.fallback) for entry in rounds)
        if skipped or fallbacks:
            yield (
                f"{shown}: of {len(rounds)} rounds {skipped} skipped, {fallbacks} aggregated by "
                "the fallback; the report says why"
            )


def _judgement(found: DetectionScores) -> str:
    auroc = "undefined" if found.auroc is None else f"{found.auroc:.3f}"
    if found.removed is None:
        return f"over {found.rounds} rounds its rule only weighed, AUROC {auroc}"
    return (
        f"over {found.rounds} rounds its rule removed {found.removed} of {found.updates} updates, "
        f"{found.true_positives} of the {found.cheating} cheating ones (precision "
        f"{_value(found.precision)}, recall {_value(found.recall)}, AUROC {auroc})"
    )


def _notes(result: GameResult) -> Iterator[str]:
    yield from (printable(f"{note[:1].upper()}{note[1:]}", 600) for note in result.notes)
    for name, scores in result.defenders.items():
        for note in scores.notes:
            yield f"{printable(name, 64)}: {printable(note, 400)}"


def _quarantined(result: GameResult) -> Iterator[str]:
    for one in result.quarantined[:_QUARANTINES]:
        yield (
            f"Quarantined: {printable(one.stage)} of {printable(one.agent, 64)}, "
            f"{printable(one.code)}: {printable(one.message, 200)}"
        )
    more = len(result.quarantined) - _QUARANTINES
    if more > 0:
        yield f"Quarantined: {more} more; see the report"


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
    for names, cells in found.rows[:_SWEEP_ROWS]:
        drawn.add_row(*map(Text, names), *map(_mean_cell, cells))
    console.print(drawn)
    if len(found.rows) > _SWEEP_ROWS:
        console.print(Text(f"{len(found.rows) - _SWEEP_ROWS} more rows stand in the report."))
    for line in told(table)[:1]:
        console.print(Text(printable(line, 600)))


def _mean_cell(cell: ScoreCell) -> Text:
    if not cell.value:
        return Text("-")
    if " to " not in cell.reach:
        return Text(cell.value)
    return Text(f"{cell.value}\n[{cell.reach.replace(' to ', ', ')}]")
