"""``backfire compare``: two runs or sweeps side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backfire.cli.options import Debug, Json, Plain, open_console
from backfire.errors import UsageError, told
from backfire.terminal import say
from scenarios.text.quoting import printable

if TYPE_CHECKING:
    from backfire.evidence.estimates import Estimate
    from backfire.evidence.paired_runs import ComparedRuns, ComparedScore

_MAIN: Final = ("clean_accuracy", "asr", "asr_source", "asr_alone", "interference")
_FIELDS: Final = 40
_NONE: Final = "-"


def compare(
    first: Annotated[Path, typer.Argument(help="The folder of a run or a sweep.", metavar="RUN")],
    second: Annotated[Path, typer.Argument(help="The folder of another.", metavar="RUN")],
    everything: Annotated[
        bool, typer.Option("--all", help="Show every score, not only the main ones.")
    ] = False,
    scores: Annotated[
        list[str],
        typer.Option("--score", metavar="NAME", help="Show this score only; repeatable."),
    ] = [],  # noqa: B006 - typer wants a list, and nobody changes it
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Set the scores of two runs or sweeps side by side, and say how their scenarios differ.

    Differences are first less second, taken seed by seed over the seeds that both have, with a 95 %
    interval. One is called higher or lower only with three common seeds, and after the correction
    for all that is compared.

    Exit code 0: compared. 2: the command is wrong. 3: a folder holds nothing finished.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.api.comparing import compare as compared

        if everything and scores:
            raise UsageError("expected --all or --score, got both")
        found = compared(first, second).found
        wanted = _wanted(found, scores, everything=everything)
        if json_output:
            say(json.dumps(asdict(found), indent=2))
        else:
            show(found, open_console(plain), wanted)


def _wanted(found: ComparedRuns, asked: Sequence[str], *, everything: bool) -> Sequence[str]:
    from backfire.evidence.named_scores import scores_named

    there = list(dict.fromkeys(one.score for one in found.scores))
    chosen = scores_named(asked, there)
    return there if everything else chosen or _MAIN


def show(found: ComparedRuns, console: Console, scores: Sequence[str] = _MAIN) -> None:
    """Print a comparison; names are foreign text and never read as markup.

    Args:
        found: The comparison.
        console: Where to print.
        scores: Those that are shown.
    """
    for name, who, seeds in zip(found.names, ("first", "second"), found.seeds, strict=True):
        listed = ", ".join(map(str, seeds[:12])) + (" ..." if len(seeds) > 12 else "")
        console.print(Text(f"{who}: {name} (seeds {listed})"))
    shown = [one for one in found.scores if one.score in scores]
    console.print(_table(shown))
    if len(shown) < len(found.scores):
        more = len(found.scores) - len(shown)
        console.print(Text(f"{more} more scores; --all shows them"))
    if not any(one.told in ("higher", "lower") for one in found.scores):
        console.print(Text("No difference is beyond doubt."))
    for note in found.notes:
        console.print(Text(f"{note[:1].upper()}{note[1:]}"))
    console.print(Text("\nScenarios: " + ("" if found.scenario else "no field differs")))
    for line in _changes(found):
        console.print(Text(line), soft_wrap=True)


def _table(scores: Sequence[ComparedScore]) -> Table:
    axes = list(dict.fromkeys(name for one in scores for name in one.at))
    title = Text("in % and points, or in the unit named [95 % interval over seeds]")
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in (*axes, "defender", "attackers", "score"):
        table.add_column(Text(printable(name, 40)), overflow="fold")
    for name in ("first", "second", "difference", "first is"):
        table.add_column(name, justify="right", overflow="fold")
    for one in scores:
        names = [*(str(one.at.get(name, "")) for name in axes), one.defender, one.group]
        cells = [printable(name, 60) for name in (*names, _named(one.score))]
        cells += [_value(one.score, one.first), _value(one.score, one.second)]
        cells += [_difference(one), _told(one)]
        table.add_row(*map(Text, cells))
    return table


def _named(score: str) -> str:
    from backfire.evidence.named_scores import unit_of

    unit = unit_of(score)
    return score.replace("_", " ") + (f" ({unit})" if unit else "")


def _value(score: str, found: Estimate, *, signed: bool = False) -> str:
    from backfire.evidence.named_scores import value_words

    if found.value is None:
        return _NONE
    reach = ""
    if found.low is not None and found.high is not None:
        ends = (value_words(score, end, signed=signed) for end in (found.low, found.high))
        reach = f"\n[{', '.join(ends)}]"
    return f"{value_words(score, found.value, signed=signed)}{reach}"


def _told(one: ComparedScore) -> str:
    return one.told if one.told in ("higher", "lower") else _NONE


def _difference(one: ComparedScore) -> str:
    if one.paired is None:
        return _NONE
    return _value(one.score, one.paired.difference, signed=True)


def _changes(found: ComparedRuns) -> Iterator[str]:
    for change in found.scenario[:_FIELDS]:
        old, new = (_setting(value) for value in (change.first, change.second))
        yield f"  {printable(change.path, 120)}: {old} | {new}"
    if len(found.scenario) > _FIELDS:
        yield f"  {len(found.scenario) - _FIELDS} more fields; --json lists them"


def _setting(value: object) -> str:
    return _NONE if value is None else printable(json.dumps(value, default=str), 80)
