"""``backfire sweep``: plays every cell of a sweep file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

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
from backfire.cli.track import Track
from backfire.errors import FAILED, UsageError, exit_code, told
from backfire.terminal import say
from scenarios.text.quoting import printable

if TYPE_CHECKING:
    from backfire.sweeps.playing import PlayedSweep
    from server.events import Event


class SweepRuntime(StrEnum):
    """Where cells are played."""

    LOCAL = "local"
    RAY = "ray"


def sweep(
    file: Annotated[
        str, typer.Argument(help="A sweep file, or a name that `backfire list` shows.")
    ],
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a field, such as training.epochs=5 or sweep.seeds=2; repeatable.",
        ),
    ] = [],  # noqa: B006 - typer wants a list, and nobody changes it
    only: Annotated[
        list[str],
        typer.Option(
            "--only",
            metavar="AXIS=VALUE",
            help="Play the part of the sweep at this value, or of seed=NUMBER; repeatable. It has "
            "a folder of its own.",
        ),
    ] = [],  # noqa: B006 - as above
    jobs: Jobs = None,
    runtime: Annotated[
        SweepRuntime, typer.Option("--runtime", help="Processes of this machine, or a Ray cluster.")
    ] = SweepRuntime.LOCAL,
    device: Device = None,
    devices: Devices = None,
    out: SweepOut = RUNS,
    track: Track = [],  # noqa: B006 - as above
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Play every cell of a sweep; what was played before is kept.

    A sweep that was stopped or killed goes on when it is started again. FILE is a scenario with a
    block sweep:, or a name that `backfire list` shows.

    Exit code 0: finished. 2: the file or the command is wrong. 3: a cell could not be played.
    130: stopped by Ctrl-C. 143: stopped by SIGTERM.
    """
    with told(debug=debug, json_output=json_output):
        from scenarios.library import find

        path = find(file)
        from scenarios.loader import Look, load_sweep
        from scenarios.narrowing import narrowed

        # The machines of a cluster may have data that this one has not.
        look = Look.MUST if runtime == SweepRuntime.LOCAL else Look.IF_THERE
        chosen = narrowed(load_sweep(path, overrides, look), only)
        from backfire.sweeps import play_sweep
        from backfire.sweeps.progress import watched
        from backfire.sweeps.tracking import track_sweep
        from backfire.trackers import need_trackers

        spread = chosen_devices(device, devices)
        if len(spread) > 1 and runtime == SweepRuntime.RAY:
            raise UsageError("expected --devices with --runtime local: Ray gives each cell its GPU")
        names = list(track)
        need_trackers(names)
        console = open_console(plain, error=True)

        def observe(event: Event) -> None:
            console.print(printable(event.note, 300), markup=False, soft_wrap=True)

        with (
            stop_told(debug=debug),
            watched(console, plain=plain) as watch,
            track_sweep(names, chosen.name, watch, observe) as tracked,
        ):
            played = play_sweep(
                chosen, out, jobs=jobs, runtime=runtime.value, devices=spread, watch=tracked
            )
        _show(played, plain=plain, json_output=json_output)
        if played.failed:
            raise typer.Exit(FAILED)


@contextmanager
def stop_told(*, debug: bool = False) -> Iterator[None]:
    """Say how to go on with a sweep that is stopped inside, and end with the exit code of that.

    Args:
        debug: Let the exception through, with its traceback.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        if debug:
            raise
        again = "start the same command again to go on"
        say(f"stopped; {shlex.quote(str(stopped))} is unfinished; {again}", err=True)
        raise typer.Exit(exit_code(stopped)) from None


def tell_failed(played: PlayedSweep) -> None:
    """Say a line for each cell that could not be played."""
    for one in played.failed:
        say(f"failed: {printable(one.cell.title)}: {printable(one.message, 500)}", err=True)


def _show(played: PlayedSweep, *, plain: bool, json_output: bool) -> None:
    from backfire.evidence.long_table import SCORES

    scores = report = table = None
    if not played.failed:
        from backfire.sweeps.results import REPORT, conclude

        table, _ = conclude(played.folder)
        scores, report = str(played.folder / SCORES), str(played.folder / REPORT)
    if json_output:
        failed = [
            {"at": dict(one.cell.at), "seed": one.cell.seed, "message": one.message}
            for one in played.failed
        ]
        found = {
            "folder": str(played.folder),
            "played": played.played,
            "already": played.already,
            "failed": failed,
            "scores": scores,
            "report": report,
        }
        say(json.dumps(found, indent=2))
        return
    tell_failed(played)
    where = printable(str(played.folder))
    before = f", {played.already} were there before" if played.already else ""
    if played.failed:
        many = f"{len(played.failed)} failed, {played.played} played{before}"
        say(f"{where}: not finished: {many}", err=True)
    else:
        if table is not None:
            from backfire.cli.tables import show_scores

            show_scores(table, open_console(plain))
        say(f"{where}: finished: {played.played} games played{before}")
        say(f"Scores: {printable(str(scores))}")
        say(f"Report: {printable(str(report))}")
