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
from backfire.errors import told
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

        found = compared(first, second).found
        if json_output:
            say(json.dumps(asdict(found), indent=2))
        else:
            show(found, open_console(plain), everything=everything)


def show(found: ComparedRuns, console: Console, *, everything: bool = False) -> None:
    """Print a comparison; names are foreign text and never read as markup.

    Args:
        found: The comparison.
        console: Where to print.
        everything: Every score, not only the main ones.
    """
    for name, who, seeds in zip(found.names, ("first", "second"), found.seeds, strict=True):
        listed = ", ".join(map(str, seeds[:12])) + (" ..." if len(seeds) > 12 else "")
        console.print(Text(f"{who}: {name} (seeds {listed})"))
    shown = [one for one in found.scores if everything or one.score in _MAIN]
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
    title = Text("all figures in %, differences in points [95 % interval over seeds]")
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in (*axes, "defender", "attackers", "score"):
        table.add_column(Text(printable(name, 40)), overflow="fold")
    for name in ("first", "second", "difference", "first is"):
        table.add_column(name, justify="right", overflow="fold")
    for one in scores:
        names = [*(str(one.at.get(name, "")) for name in axes), one.defender, one.group]
        cells = [printable(name, 60) for name in (*names, one.score.replace("_", " "))]
        cells += [_value(one.first), _value(one.second), _difference(one), _told(one)]
        table.add_row(*map(Text, cells))
    return table


def _value(found: Estimate, *, signed: bool = False) -> str:
    if found.value is None:
        return _NONE
    form = "+.1f" if signed else ".1f"
    reach = ""
    if found.low is not None and found.high is not None:
        reach = f"\n[{100 * found.low:{form}}, {100 * found.high:{form}}]"
    return f"{100 * found.value:{form}}{reach}"


def _told(one: ComparedScore) -> str:
    return one.told if one.told in ("higher", "lower") else _NONE


def _difference(one: ComparedScore) -> str:
    return _NONE if one.paired is None else _value(one.paired.difference, signed=True)


def _changes(found: ComparedRuns) -> Iterator[str]:
    for change in found.scenario[:_FIELDS]:
        old, new = (_setting(value) for value in (change.first, change.second))
        yield f"  {printable(change.path, 120)}: {old} | {new}"
    if len(found.scenario) > _FIELDS:
        yield f"  {len(found.scenario) - _FIELDS} more fields; --json lists them"


def _setting(value: object) -> str:
    return _NONE if value is None else printable(json.dumps(value, default=str), 80)
