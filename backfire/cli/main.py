"""The command line: ``backfire run | sweep | resume | validate | list | schema | ...``.

Methods, torch and Flower are imported by the commands that need them, so that help is quick.
Results go to the standard output, progress and errors to the standard error.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.text import Text

from backfire import environment
from backfire.cli import deploy as cli_deploy
from backfire.cli.agent import agent_app
from backfire.cli.compare import compare
from backfire.cli.export import export
from backfire.cli.leaderboard import leaderboard
from backfire.cli.options import RUNS, Debug, Json, Plain, device_named, open_console
from backfire.cli.reproduce import conclude_and_show, reproduce
from backfire.cli.show import show
from backfire.cli.sweep import sweep
from backfire.cli.track import Track
from backfire.deferred import defer_torch
from backfire.errors import (
    FAILED,
    INTERRUPTED,
    READER_GONE,
    USAGE,
    UsageError,
    as_json,
    reader_is_gone,
    told,
)
from backfire.terminal import escape_what_cannot_be_shown, say
from scenarios.text.errors import ScenarioError
from scenarios.text.quoting import printable

if TYPE_CHECKING:
    from backfire.playing import PlayedGame
    from scenarios.scenario import Scenario
    from scenarios.sweep.spec import Sweep

app = typer.Typer(
    name="backfire",
    help="A game table for poisoned collaborative learning: many agents, one defender, a scored "
    "result.",
    epilog="Begin with:  backfire run quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(cli_deploy.app, name="deploy")


class Runtime(StrEnum):
    """Where agents are played."""

    LOCAL = "local"
    RAY = "ray"
    GRPC = "grpc"


_Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a field, such as agents.mallory.count=12 or training.epochs=5; repeatable.",
    ),
]
_SCENARIO_HELP = "A scenario file, or a name that `backfire list` shows."
_Out = Annotated[Path, typer.Option("--out", help="Folder that run folders are made in.")]
_Connection = Annotated[
    Path | None,
    typer.Option(
        "--connection",
        metavar="DIR",
        help="The folder of a deployment (backfire deploy init), for --runtime grpc.",
    ),
]


app.add_typer(agent_app)
app.command()(sweep)
app.command()(reproduce)
app.command()(leaderboard)
app.command()(show)
app.command()(export)
app.command()(compare)


def main() -> None:
    """Run the command line; end the process with an exit code of `backfire.errors`."""
    escape_what_cannot_be_shown()
    try:
        code = app(standalone_mode=False)
    except click.exceptions.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        code = error.exit_code
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            message = printable(" ".join(error.format_message().split()), 500)
            say(f"error: {message} (backfire --help shows how)", err=True)
    if reader_is_gone():
        code = READER_GONE
    sys.exit(code if isinstance(code, int) else 0)


def _version(value: bool) -> None:
    if value:
        try:
            say(f"backfire {metadata.version('backfire')}")
        except metadata.PackageNotFoundError:
            say("backfire (not installed; run from its source)")
        raise typer.Exit


@app.callback()
def _prepare(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    environment.prepare()


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help=_SCENARIO_HELP)],
    overrides: _Set = [],  # noqa: B006 - typer wants a list, and nobody changes it
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**63 - 1, help="Play with this seed.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")
    ] = None,
    runtime: Annotated[Runtime, typer.Option("--runtime", help="Where agents run.")] = (
        Runtime.LOCAL
    ),
    connection: _Connection = None,
    out: _Out = RUNS,
    track: Track = [],  # noqa: B006 - as above
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Play a scenario; end with a table and an HTML report.

    SCENARIO is a file, or a name that `backfire list` shows.

    Exit code 0: played. 2: the scenario or the command is wrong. 3: the game could not be played.
    130: stopped by Ctrl-C. 143: stopped by SIGTERM. `backfire resume` goes on with a stopped run.
    """
    with told(debug=debug, json_output=json_output):
        if seed is not None:
            overrides = [*overrides, f"seed={seed}"]
        if device is not None:
            overrides = [*overrides, f"compute.device={json.dumps(device_named(device))}"]
        chosen = _load(scenario, overrides)
        from backfire.cli.progress import watched
        from backfire.playing import play

        with watched(open_console(plain, error=True), plain=plain) as observe:
            played = play(
                chosen,
                runtime=runtime.value,
                connection=connection,
                out=out,
                progress=observe,
                track=list(track),
            )
        _show(played, plain=plain, json_output=json_output)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was cut off.")],
    runtime: Annotated[
        Runtime | None,
        typer.Option("--runtime", help="Where agents run; by default where they did."),
    ] = None,
    connection: _Connection = None,
    track: Track = [],  # noqa: B006 - as above
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a run that was killed, stopped or had no room left on the disk.

    RUN is its folder. The game goes on after the last round of which a sound checkpoint was kept,
    and ends with the same model and scores as if it had never been cut off.

    Exit codes are those of `backfire run`; 0 also where the run was finished before.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.cli.progress import watched
        from backfire.playing import resume as go_on

        chosen = None if runtime is None else runtime.value
        with watched(open_console(plain, error=True), plain=plain) as observe:
            played = go_on(
                run,
                runtime=chosen,
                connection=connection,
                progress=observe,
                track=list(track),
            )
        if played.already and not json_output:
            say(f"{printable(str(run))}: this run is finished; nothing is left to play")
            say(f"Report: {printable(str(played.report))}")
        else:
            _show(played, plain=plain, json_output=json_output)


@app.command()
def validate(
    scenarios: Annotated[
        list[str], typer.Argument(metavar="SCENARIO...", help=_SCENARIO_HELP, show_default=False)
    ],
    overrides: _Set = [],  # noqa: B006 - as above
    data: Annotated[
        bool, typer.Option("--data", help="Expect the data to be on this machine.")
    ] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Check scenarios and sweeps; say each mistake in one line with its place and remedy.

    SCENARIO is a file, or a name that `backfire list` shows. Of a sweep every cell is checked.
    Triggers, agents and defences are set against the data where these are known or on this machine.

    Exit code 0: all are valid. 2: one is not.
    """
    defer_torch()
    with told(debug=debug, json_output=json_output):
        checked = [_validated(scenario, overrides, data) for scenario in scenarios]
        if json_output:
            _print_json(checked[0] if len(checked) == 1 else checked)
        else:
            for item in checked:
                lines = [_summary(item)] if item["valid"] else item["messages"]
                for line in lines:
                    say(line, err=not item["valid"])
        if not all(item["valid"] for item in checked):
            raise typer.Exit(USAGE)


@app.command("list")
def list_(
    family: Annotated[
        str | None,
        typer.Argument(
            help="Show one family only, such as trigger, or scenarios; or one method, such as krum."
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="TEXT", help="Only what has this text in its line."),
    ] = None,
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Show the scenarios of the library, and every method by family.

    FAMILY shows one family only, such as trigger or scenarios; or one method with its parameters.
    """
    defer_torch()
    with told(debug=debug, json_output=json_output):
        from backfire.cli import catalogue

        found = catalogue.catalogue(family)
        found = found if search is None else catalogue.searched(found, search)
        if json_output:
            _print_json(found)
        else:
            catalogue.show(found, open_console(plain))


@app.command()
def schema(
    method: Annotated[
        str | None, typer.Argument(help="Only the part of this method, such as krum.")
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Print the JSON schema of scenario files, for editors; or the part of one method.

    It is JSON with or without --json.
    """
    defer_torch()
    with told(debug=debug, json_output=json_output):
        from backfire.cli.catalogue import definition_of
        from scenarios.json_schema import text

        if method is None:
            say(text(), nl=False)
        else:
            _print_json(definition_of(method))


@app.command()
def doctor(
    out: _Out = RUNS, plain: Plain = False, json_output: Json = False, debug: Debug = False
) -> None:
    """Say what this machine has, what is missing, and what to do.

    Exit code 0: nothing that is needed is missing. 3: something is.
    """
    with told(debug=debug, json_output=json_output):
        from dataclasses import asdict

        from backfire.cli.doctor import examine, healthy

        checks = examine(out)
        if json_output:
            _print_json({"healthy": healthy(checks), "checks": [asdict(check) for check in checks]})
        else:
            console = open_console(plain)
            styles = {"ok": "green", "note": "yellow", "missing": "bold red"}
            for check in checks:
                line = Text(f"{check.state:8}", style=styles[check.state])
                line.append(f"{check.name}: {printable(check.found)}", style="default")
                console.print(
                    line.append(f" -> {check.remedy}" if check.remedy else ""), soft_wrap=True
                )
        if not healthy(checks):
            raise typer.Exit(FAILED)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or that of a sweep.", metavar="RUN")],
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            metavar="FILE",
            help="For a sweep: also write its comparison with the paper to FILE.",
        ),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make the HTML report of a run or sweep folder again.

    RUN is a run folder, every file of which is checked first; or the folder of a finished sweep.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.evidence.long_table import SWEEP

        if (run / SWEEP).is_file():
            conclude_and_show(run, markdown=markdown, json_output=json_output)
            return
        if markdown is not None:
            raise UsageError(f"expected the folder of a sweep for --markdown, got {run}")
        from backfire.reporting.render import render

        path = render(run)
        if json_output:
            _print_json({"folder": str(run), "report": str(path)})
        else:
            say(f"Report: {printable(str(path))}")


def _show(played: PlayedGame, *, plain: bool, json_output: bool) -> None:
    if json_output:
        paths = {"folder": str(played.folder), "report": str(played.report)}
        _print_json({**paths, "result": json.loads(played.result.model_dump_json())})
    else:
        from backfire.cli.tables import show

        show(played.result, played.report, open_console(plain))


def _load(scenario: str, overrides: list[str]) -> Scenario:
    from scenarios.library import find

    file = find(scenario)  # before the methods are imported, so that a wrong name is said at once
    from scenarios.loader import Look, load

    return load(file, overrides, Look.MUST)


def _load_any(scenario: str, overrides: list[str], data: bool) -> Scenario | Sweep:
    from scenarios.library import find
    from scenarios.loader import Look, load_any

    return load_any(find(scenario), overrides, Look.MUST if data else Look.IF_THERE)


def _validated(scenario: str, overrides: list[str], data: bool) -> dict[str, Any]:
    try:
        loaded = _load_any(scenario, overrides, data)
    except ScenarioError as error:
        return {"scenario": scenario, "valid": False, **as_json(error)}
    from scenarios.sweep.spec import Sweep

    if isinstance(loaded, Sweep):
        return _validated_sweep(scenario, loaded)
    return {
        "scenario": scenario,
        "valid": True,
        "name": loaded.name,
        "agents": len(loaded.roster()),
        "defenders": list(loaded.defenders),
        "digest": loaded.digest(),
        "resolved": loaded.resolved(),
    }


def _validated_sweep(scenario: str, sweep: Sweep) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "valid": True,
        "name": sweep.name,
        "cells": [
            {"at": dict(cell.at), "seed": cell.seed, "digest": cell.digest} for cell in sweep.cells
        ],
        "digest": sweep.digest(),
        "resolved": sweep.document(),
    }


def _summary(item: dict[str, Any]) -> str:
    if "cells" in item:
        games = len({cell["digest"] for cell in item["cells"]})
        count = _many(len(item["cells"]), "cell")
        count += "" if games == len(item["cells"]) else f", {games} of them different games"
        return f"{printable(item['scenario'])}: valid (sweep of {count}, {item['digest'][:12]})"
    count = f"{_many(item['agents'], 'agent')}, {_many(len(item['defenders']), 'defender')}"
    return f"{printable(item['scenario'])}: valid ({count}, {item['digest'][:12]})"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _print_json(value: object) -> None:
    say(json.dumps(value, indent=2))
