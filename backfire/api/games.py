"""`play` and `sweep`: games from Python, to the same bytes as from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from backfire import playing
from backfire.api.inputs import Given, objects_in, scenario_of, sweep_of
from backfire.api.results import FinishedGame, FinishedSweep
from backfire.callbacks.base import Callback
from backfire.sweeps.devices import devices_of
from backfire.sweeps.playing import Watcher, play_sweep
from backfire.sweeps.progress import watched
from backfire.sweeps.results import conclude
from backfire.sweeps.tracking import track_sweep
from backfire.trackers import need_trackers


def play(
    scenario: Given,
    *,
    seed: int | None = None,
    out: str | Path = "runs",
    runtime: str = "local",
    connection: str | Path | None = None,
    track: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    device: str | None = None,
    **changes: object,
) -> FinishedGame:
    """Play a game and return what came of it; a run folder is left, as by ``backfire run``.

    Objects from Python may stand where YAML has a block: an `nn.Module`, or a function without
    arguments that builds one, as ``model``; arrays, a `DataSet` or a PyTorch data set as ``data``;
    methods of one's own (a defence, a behaviour, an update attack, a trigger) in the place of a
    mapping with a kind. The run then says which they were, and that no file can replay it.

    Args:
        scenario: A name of the library, a path, a mapping, or a `Scenario`.
        seed: The game's seed; by default the scenario's.
        out: Folder that the run folder is made in.
        runtime: ``local``, ``ray`` or ``grpc``. An object from Python cannot leave this process:
            a game that holds one is played on ``local``.
        connection: The folder of a deployment, which ``grpc`` needs.
        track: Names of trackers or callbacks, as for ``--track``.
        callbacks: Told of the game's start, events and end; one that fails is told no more.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``, as for ``--device``; by default
            the scenario's. It changes no hash.
        **changes: What stands in a field instead: ``training={...}``, ``model=net``, or by path
            as for ``--set``: ``**{"agents.mallory.count": 3}``.

    Raises:
        ScenarioError: If the scenario is wrong; one line for each mistake.
        PlayError: If the game cannot be played; one line.
        RunFolderError: If its folder cannot be written; one line.
        ValueError: If an object from Python cannot be taken; one line.
    """
    asked = changes if device is None else {**changes, "compute.device": device}
    chosen = scenario_of(scenario, seed, asked)
    if runtime != "local" and (objects := objects_in(chosen)):
        raise playing.PlayError(
            f"expected the runtime local for a game with objects from Python ({objects[0]}), which "
            f"cannot be sent to other processes, got {runtime!r}"
        )
    played = playing.play(
        chosen,
        runtime=runtime,
        connection=None if connection is None else Path(connection),
        out=Path(out),
        track=track,
        callbacks=callbacks,
    )
    return FinishedGame(played.folder, chosen.model)


def resume(
    folder: str | Path,
    *,
    runtime: str | None = None,
    connection: str | Path | None = None,
    track: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> FinishedGame:
    """Go on with a game that was cut off, to the same bytes; a finished one is only read.

    A game with objects from Python cannot be resumed: its folder does not hold them.

    Args:
        folder: Its run folder.
        runtime: As for `play`; by default the one on which the game began.
        connection: As for `play`.
        track: As for `play`.
        callbacks: As for `play`.

    Raises:
        ScenarioError: If the run's scenario cannot be read, for one because it holds objects.
        PlayError: If the game cannot be played; one line.
        RunFolderError: If there is no run to go on with; one line.
    """
    played = playing.resume(
        Path(folder),
        runtime=runtime,
        connection=None if connection is None else Path(connection),
        track=track,
        callbacks=callbacks,
    )
    return FinishedGame(played.folder)


def sweep(
    scenario: str | Path | Mapping[str, Any],
    *,
    out: str | Path = "runs",
    jobs: int | None = None,
    runtime: str = "local",
    devices: str | Sequence[str] = (),
    track: Sequence[str] = (),
    progress: bool = False,
    **changes: object,
) -> FinishedSweep:
    """Play every cell of a sweep that is not played yet, and return its scores.

    A sweep that was stopped goes on when it is called again with the same `out`.

    The cells are played by processes of their own, so a program calls it under
    ``if __name__ == "__main__":``, and a sweep holds plain values only.

    Args:
        scenario: A name of the library, a path or a mapping, with a block ``sweep``.
        out: Folder that the sweep's folder is made in.
        jobs: Cells played at a time; by default one for each CPU core or GPU that is used.
        runtime: ``local``, processes of this machine, or ``ray``, tasks of a Ray cluster.
        devices: Devices that the cells are spread over, of one kind, such as
            ``("cuda:0", "cuda:1")``; or as for ``--devices``: ``"all"`` for every GPU. By default
            each cell is played on its scenario's. No hash changes.
        track: Names of trackers, as for ``--track``; they are told of each cell.
        progress: Whether to show the cells on the standard error, as the command line does.
        **changes: As for `play`: ``**{"sweep.seeds": 3}``.

    Raises:
        ScenarioError: If the sweep is wrong; one line for each mistake.
        PlayError: If a cell cannot be played; one line.
        RunFolderError: If its folder cannot be written; one line.
        TypeError: If it holds an object from Python; one line.
        ValueError: If a device is not on this machine, several are named for Ray, or there is no
            such tracker; one line.
    """
    spread = _spread(devices, runtime)
    chosen = sweep_of(scenario, changes)
    need_trackers(track)
    with _watching(progress=progress) as watch, track_sweep(track, chosen.name, watch) as told:
        played = play_sweep(
            chosen, Path(out), jobs=jobs, runtime=runtime, devices=spread, watch=told
        )
    if played.failed:
        first = played.failed[0]
        many = f"{len(played.failed)} of the sweep's games failed, first "
        raise playing.PlayError(f"{many}{first.cell.title}: {first.message}")
    conclude(played.folder)
    return FinishedSweep(played.folder)


def _spread(devices: str | Sequence[str], runtime: str) -> tuple[str, ...]:
    names = devices if isinstance(devices, str) else ",".join(devices)
    found = devices_of(names) if names else ()
    if len(found) > 1 and runtime == "ray":
        raise ValueError(
            f"expected at most one device with the runtime ray, which gives each cell its GPU, got "
            f"{', '.join(found)}"
        )
    return found


@contextmanager
def _watching(*, progress: bool) -> Iterator[Watcher]:
    if not progress:
        yield lambda step: None
        return
    with watched(Console(stderr=True, highlight=False)) as watch:
        yield watch
