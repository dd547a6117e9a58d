"""``backfire reproduce``: plays a paper's table and sets it beside the paper; also tells sweeps."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backfire.cli.options import (
    RUNS,
    Debug,
    Device,
    Devices,
    Jobs,
    Json,
    Plain,
    SweepOut,
    chosen_devices,
    open_console,
)
from backfire.cli.sweep import stop_told, tell_failed
from backfire.errors import FAILED, told
from backfire.terminal import say
from scenarios.text.quoting import printable

if TYPE_CHECKING:
    from backfire.evidence.published.judging import FigureLine, PaperBesideOurs
    from backfire.evidence.published.sweep_table import SweepTable
    from backfire.sweeps.page_scores import PageScores
    from scenarios.sweep.spec import Sweep

_STYLES = {
    "holds": "green",
    "holds in part": "yellow",
    "does not hold": "red",
    "undecided": "cyan",
    "not comparable": "dim",
}
_ROWS = 40


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(help="A table of a paper, such as s1-table3; without it they are listed."),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="The twin on digits, for two CPU cores.")
    ] = False,
    mnist: Annotated[bool, typer.Option("--mnist", help="The twin on MNIST.")] = False,
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a field, such as data.path=mnist.npz or sweep.seeds=2; repeatable.",
        ),
    ] = [],  # noqa: B006 - typer wants a list, and nobody changes it
    jobs: Jobs = None,
    device: Device = None,
    devices: Devices = None,
    out: SweepOut = RUNS,
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            metavar="FILE",
            help="Write the table as Markdown, too, and its scores beside it.",
        ),
    ] = None,
    played: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="SCORES",
            help="Play nothing: take the scores beside a page (.scores.csv.gz), or those of the "
            "folder of a finished sweep.",
        ),
    ] = None,
    fill: Annotated[
        Path | None,
        typer.Option(
            "--fill",
            metavar="PAGE",
            help="Play nothing: write the marked tables of a page anew from the scores beside it.",
        ),
    ] = None,
    open_report: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the report; by default in a terminal."),
    ] = None,
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Play a table of a paper and compare the results with the printed ones.

    What was played before is kept. With --from nothing is played: the page is written again from
    its scores. Where --markdown writes over a page it says which verdicts changed. With --fill the
    summaries of a page written by hand are made anew. Without NAME the tables are listed.

    Exit code 0: played, whatever the verdicts are. 2: the command is wrong. 3: a cell could not be
    played.
    """
    with told(debug=debug, json_output=json_output):
        if fill is not None:
            _fill(fill, json_output=json_output)
            return
        if name is None:
            _list(json_output=json_output)
            return
        if small and mnist:
            raise typer.BadParameter("expected --small or --mnist, got both")
        size = "small" if small else "mnist" if mnist else ""
        from backfire.evidence.published.reproductions import find_reproduction
        from scenarios.loader import Look, load_sweep

        look = Look.MUST if played is None else Look.NO
        chosen = load_sweep(find_reproduction(name, size), overrides, look)
        command = ["backfire", "reproduce", name, *([f"--{size}"] if size else [])]
        command += [part for one in overrides for part in ("--set", one)]
        replay = shlex.join(command)
        if played is not None:
            _from_scores(played, chosen, replay, markdown, plain=plain, json_output=json_output)
            return
        spread = chosen_devices(device, devices)
        folder = _play(chosen, out, jobs, spread, plain=plain)
        conclude_and_show(
            folder, markdown=markdown, replay=replay, plain=plain, json_output=json_output
        )
        if _wants_open(open_report, json_output=json_output):
            import webbrowser

            webbrowser.open((folder / "report.html").resolve().as_uri())


def _wants_open(asked: bool | None, *, json_output: bool) -> bool:
    """Return whether to open a browser: where asked to, else where somebody sits at a screen."""
    if asked is not None:
        return asked
    screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return screen and sys.stdout.isatty() and not json_output


def _play(
    chosen: Sweep, out: Path, jobs: int | None, spread: Sequence[str], *, plain: bool
) -> Path:
    from backfire.sweeps import play_sweep
    from backfire.sweeps.progress import watched

    with stop_told(), watched(open_console(plain, error=True), plain=plain) as watch:
        played = play_sweep(chosen, out, jobs=jobs, devices=spread, watch=watch)
    tell_failed(played)
    if played.failed:
        raise typer.Exit(FAILED)
    return played.folder


def conclude_and_show(
    folder: Path,
    *,
    markdown: Path | None = None,
    replay: str = "",
    plain: bool = False,
    json_output: bool = False,
) -> None:
    """Make card and report of a finished sweep, print the table beside the paper, write Markdown.

    Args:
        folder: The sweep's.
        markdown: Where the table goes as Markdown; None for nowhere.
        replay: The command that the Markdown names; by default that of the sweep.
        plain: No colours.
        json_output: Print JSON instead.

    Raises:
        RunFolderError: If the folder holds no finished sweep or cannot be written to.
        UsageError: If Markdown is wanted of a sweep that says nothing of a paper.
    """
    from backfire.sweeps.results import REPORT, conclude

    table, scores = conclude(folder)
    report = str(folder / REPORT)
    written = _write(markdown, table, scores, replay)
    if json_output:
        found = {"folder": str(folder), "report": report}
        say(json.dumps(found | _as_json(table), indent=2))
        return
    _tell(table, {"Report": report, **written}, plain=plain)


def _from_scores(
    played: Path,
    chosen: Sweep,
    replay: str,
    markdown: Path | None,
    *,
    plain: bool,
    json_output: bool,
) -> None:
    """Print the table of games that were played before, and write its Markdown."""
    from backfire.sweeps.results import from_scores

    table, scores = from_scores(played, chosen, replay)
    written = _write(markdown, table, scores, replay)
    if json_output:
        say(json.dumps(_as_json(table), indent=2))
        return
    _tell(table, written, plain=plain)


def _write(
    markdown: Path | None, table: SweepTable, scores: PageScores, replay: str
) -> dict[str, str]:
    """Write Markdown and scores where they are wanted; return what was written, by name."""
    if markdown is None:
        return {}
    from backfire.sweeps.page_scores import beside
    from backfire.sweeps.results import write_markdown

    for change in write_markdown(markdown, table, scores, replay):
        typer.echo(f"changed {printable(str(change), 500)}", err=True)
    return {"Markdown": str(markdown), "Scores": str(beside(markdown))}


def _tell(table: SweepTable, written: Mapping[str, str], *, plain: bool) -> None:
    if table.side is not None:
        show(table.side, open_console(plain))
    for what, path in written.items():
        say(f"{what}: {printable(path)}")


def show(side: PaperBesideOurs, console: Console) -> None:
    """Print a table beside a paper; names are foreign text and never read as markup."""
    from backfire.evidence.published.text import claim_words

    _show_printed(side, console)
    console.print(Text(printable(side.finding, 2000), style="bold"))
    claims = [(line.claim.text, claim_words(line), str(line.verdict)) for line in side.claims]
    _print(console, ("paper", "ours", "verdict"), claims)


def _show_printed(side: PaperBesideOurs, console: Console) -> None:
    """Print the paper's table as a table, each cell with ours below what is printed."""
    from backfire.evidence.published.printed import printed_table

    if not side.figures:
        return
    found = printed_table(side.figures)
    table = Table(
        title=Text(f"{printable(side.published.source, 200)}; in %: the paper, below it ours"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in (*found.labels, *found.columns):
        table.add_column(_words(name), overflow="fold")
    for names, cells in found.rows[:_ROWS]:
        table.add_row(*map(_words, names), *map(_beside, cells))
    console.print(table)
    if len(found.rows) > _ROWS:
        console.print(Text(f"{len(found.rows) - _ROWS} more rows stand in the report."))
    if not side.published.is_comparable:
        console.print(Text(f"Not comparable: {printable(side.published.why_not, 300)}."))


def _words(name: str) -> Text:
    """Return a name that may break where its words end."""
    return Text(printable(name.replace("_", " "), 60))


def _beside(line: FigureLine | None) -> Text:
    """Return a cell: what is printed, ours, and the verdict where the two can be compared."""
    from backfire.evidence.published.judging import ClaimVerdict
    from backfire.evidence.published.text import paper_words

    if line is None:
        return Text("")
    ours = "-" if line.ours.value is None else f"{100 * line.ours.value:.1f}"
    said = "" if line.verdict is ClaimVerdict.NOT_COMPARABLE else f"\n{line.verdict}"
    style = _STYLES.get(str(line.verdict), "")
    return Text(f"{paper_words(line).removesuffix(' %')}\n{ours}").append(said, style=style)


def _print(console: Console, head: tuple[str, ...], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = [Text(printable(cell, 1000)) for cell in row[:-1]]
        table.add_row(*cells, Text(row[-1], style=_STYLES.get(row[-1], "")))
    console.print(table)


def _as_json(table: SweepTable) -> dict[str, Any]:
    side = table.side
    if side is None:
        return {}
    return {
        "finding": side.finding,
        "claims": [
            {"text": line.claim.text, "verdict": line.verdict, "why": line.why}
            for line in side.claims
        ],
        "figures": [
            {
                "at": {} if line.spot is None else dict(line.spot.at),
                "defender": None if line.spot is None else line.spot.defender,
                "score": line.figure.score,
                "paper": line.figure.value,
                "spread": line.figure.spread,
                "ours": line.ours.value,
                "low": line.ours.low,
                "high": line.ours.high,
                "seeds": line.ours.n,
                "verdict": line.verdict,
                "why": line.why,
            }
            for line in side.figures
        ],
    }


def _fill(page: Path, *, json_output: bool) -> None:
    from backfire.sweeps.summary_pages import filled
    from server.store.atomic import write_bytes

    found = filled(page)
    write_bytes(page, found.text.encode())
    if json_output:
        typer.echo(json.dumps({"made": found.made, "kept": found.kept}, indent=2))
        return
    for words in found.made:
        typer.echo(f"made: {printable(words, 200)}")
    for words in found.kept:
        typer.echo(f"left as it is, no scores: {printable(words, 200)}")


def _list(*, json_output: bool) -> None:
    from backfire.evidence.published.reproductions import sizes_of

    found = sizes_of()
    if json_output:
        say(json.dumps(found, indent=2))
        return
    for name, sizes in found.items():
        say(f"{name}: {', '.join(sizes)}")
