"""Plays one scenario on a runtime and leaves a run folder with its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid

from backfire.callbacks.base import Callback, Guest, Observing, telling
from backfire.callbacks.log import Log
from backfire.interrupt import interruptible
from backfire.reporting.render import render
from backfire.runtimes.local import run_local
from backfire.runtimes.ray import need_ray, run_ray
from backfire.trackers import TRACKERS, Tracked, Tracker, need_trackers, plugin
from clients.agents import deal_scenario
from clients.app import create_app as create_client
from clients.app import create_apps
from clients.data_attacks.private import Private
from learning.data.partitioning import Partitioning
from learning.training.engine.engine import pick_device
from learning.training.engine.model_cache import ModelCache
from scenarios.loader import load
from scenarios.scenario import Scenario
from server.app import create_app as create_server
from server.events import RESUMED, Observer, ignore
from server.games.checkpointer import Checkpointer
from server.games.game import Game
from server.referee.results import GameResult
from server.store.environment import environment, files_of
from server.store.reading import PLUGINS
from server.store.record import record
from server.store.run_folder import CHECKPOINTS, REPORT, SCENARIO, RunFolder, RunFolderError

RUNTIMES = ("local", "ray", "grpc")


class PlayError(RuntimeError):
    """The game could not be played; one line."""


@dataclass(frozen=True)
class PlayedGame:
    """A finished run.

    Attributes:
        result: The scores.
        folder: The run folder.
        report: Its HTML report.
        already: Whether it was finished before, and nothing was played.
    """

    result: GameResult
    folder: Path
    report: Path
    already: bool = False


def play(
    scenario: Scenario,
    *,
    runtime: str = "local",
    connection: Path | None = None,
    out: Path = Path("runs"),
    progress: Observer = ignore,
    wrap: Callable[[Grid], Grid] = lambda grid: grid,
    track: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> PlayedGame:
    """Play a scenario.

    Args:
        scenario: What to play.
        runtime: ``local``, ``ray`` or ``grpc``.
        connection: The folder of a deployment, which ``grpc`` needs.
        out: Folder for run folders.
        progress: Told of each step.
        wrap: Puts something between server and agents on the local runtime; for fault injection.
        track: Names of trackers, or of callbacks of plug-ins, that are told of it as well.
        callbacks: Objects that are told of it as well; one that fails is left out from then on.

    Raises:
        PlayError: If the game cannot be played.
        RunFolderError: If the run folder cannot be written.
        KeyboardInterrupt: As it came; the run folder is then a valid unfinished one.
    """
    device = _ready(scenario, runtime, connection, track)
    with RunFolder.create(out, scenario) as folder:
        folder.write_environment(
            device, sys.argv, runtime, plugins=scenario.plugins(), files=_files(scenario)
        )
        keeper = folder.checkpoints(scenario.digest())
        told = _callbacks(folder, track, callbacks)
        return _finish(scenario, runtime, connection, folder, keeper, progress, wrap, told)


def resume(
    path: Path,
    *,
    runtime: str | None = None,
    connection: Path | None = None,
    progress: Observer = ignore,
    wrap: Callable[[Grid], Grid] = lambda grid: grid,
    track: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> PlayedGame:
    """Go on with a run that was cut off, from its newest sound checkpoint, to the same bytes.

    Args:
        path: The run folder.
        runtime: Where the agents are; by default where they were.
        connection: The folder of a deployment, which ``grpc`` needs.
        progress: Told of each step, first of what the game goes on from.
        wrap: As for `play`.
        track: As for `play`.
        callbacks: As for `play`.

    Raises:
        ScenarioError: If the run's scenario is none.
        PlayError: If the game cannot be played.
        RunFolderError: If there is no run, or another process plays it, or its checkpoints are of
            another scenario or version, or it cannot be written.
        KeyboardInterrupt: As it came; the run can be resumed again.
    """
    if RunFolder(path).finished():
        return _finished(path)
    with RunFolder.reopen(path) as folder:
        scenario = load(path / SCENARIO)
        runtime = runtime or str(folder.environment().get("runtime", "local"))
        device = _ready(scenario, runtime, connection, track)
        _need_same_plugins(scenario, folder)
        if not folder.environment():
            folder.write_environment(
                device, sys.argv, runtime, plugins=scenario.plugins(), files=_files(scenario)
            )
        folder.record({"phase": RESUMED, "environment": environment(device, sys.argv, runtime)})
        keeper = folder.checkpoints(scenario.digest(), resuming=True)
        told = _callbacks(folder, track, callbacks)
        return _finish(scenario, runtime, connection, folder, keeper, progress, wrap, told)


def play_in(
    folder: RunFolder,
    scenario: Scenario,
    keeper: Checkpointer,
    *,
    progress: Observer = ignore,
    dealt: Partitioning | None = None,
    known: ModelCache | None = None,
) -> GameResult:
    """Play a scenario into a run folder that the caller made, on the local runtime, and finish it.

    Nothing is drawn; `backfire.reporting.render.render` does that at any time.

    Args:
        folder: The folder, its environment written.
        scenario: What to play.
        keeper: The folder's checkpoints, or nobody.
        progress: Told of each step.
        dealt: The scenario's dealt data, where the caller has it.
        known: Models that other games have trained.

    Raises:
        PlayError: If the game cannot be played.
        RunFolderError: If the run folder cannot be written.
    """
    _ready(scenario, "local", None)
    games: list[Game] = []
    callbacks = [Log(folder), Observing(progress)]
    with telling(callbacks, scenario, folder.path) as tell, _told():
        _on_local(scenario, tell, games.append, lambda g: g, keeper, dealt, known)
        game = _only(games)
        record(game, folder)
        tell.finished(game.result)
    return game.result


def _finished(path: Path) -> PlayedGame:
    result = RunFolder.open(path).result()
    if (path / CHECKPOINTS).exists():  # the process ended before it could remove them
        with RunFolder.reopen(path) as folder:
            folder.checkpoints(result.scenario_hash).clear()
    report = path / REPORT
    return PlayedGame(result, path, report if report.exists() else render(path), already=True)


def _finish(
    scenario: Scenario,
    runtime: str,
    connection: Path | None,
    folder: RunFolder,
    keeper: Checkpointer,
    progress: Observer,
    wrap: Callable[[Grid], Grid],
    callbacks: Callable[[Observer], Sequence[Callback]],
) -> PlayedGame:
    try:
        with (
            interruptible(progress) as told,
            telling(callbacks(told), scenario, folder.path) as tell,
        ):
            game = _play(scenario, runtime, connection, tell, wrap, keeper)
            record(game, folder)
            tell.finished(game.result)
            return PlayedGame(game.result, folder.path, render(folder.path))
    except KeyboardInterrupt as stopped:
        stopped.args = (str(folder.path),)
        raise


def _callbacks(
    folder: RunFolder, track: Sequence[str], guests: Sequence[Callback]
) -> Callable[[Observer], Sequence[Callback]]:
    """Return who is told of a game, the run's log first, once it is known who shows progress."""
    trackers, named = [], dict[str, Callback]()
    for name in dict.fromkeys(track):
        kind = None if name in TRACKERS else plugin(name)
        if kind is None or issubclass(kind, Tracker):
            trackers.append(name)
        elif issubclass(kind, Callback):
            named[name] = _made(name, kind)
        else:
            raise PlayError(f"expected a Tracker or a Callback of {name}, got {kind.__name__}")
    strangers = [*named.items(), *((type(guest).__name__, guest) for guest in guests)]
    return lambda progress: [
        Log(folder),
        Observing(progress),
        Tracked(trackers, progress),
        *(Guest(name, guest, progress) for name, guest in strangers),
    ]


def _made(name: str, kind: type[Callback]) -> Callback:
    try:
        return kind()
    except Exception as error:  # somebody else's code: anything at all
        why = " ".join(str(error).split()) or type(error).__name__
        raise PlayError(
            f"expected a callback {name} that is made without arguments: {why}"
        ) from error


def _ready(
    scenario: Scenario, runtime: str, connection: Path | None, track: Sequence[str] = ()
) -> str:
    """Return the device that the game trains on, or say what is missing."""
    try:
        device = pick_device(scenario.compute.device)
        if runtime == "ray":
            need_ray()
        elif runtime == "grpc" and connection is None:
            raise ValueError("--runtime grpc needs --connection with the folder of a deployment")
        if runtime == "grpc":
            _need_own_rows(scenario)
        else:
            _need_no_owner(scenario)
        need_trackers(track)
    except (ValueError, RuntimeError) as error:
        raise PlayError(str(error)) from error
    return str(device)


def _need_same_plugins(scenario: Scenario, folder: RunFolder) -> None:
    """Refuse to go on with other code than that with which a game began."""
    if not folder.environment():
        return
    began, now = folder.environment().get(PLUGINS, []), scenario.plugins()
    changed = [one for one in now if one not in began]
    if changed:
        raise PlayError(
            f"expected {changed[0]['method']} as it was when this run began; its package or its "
            "code has changed since: install it as it was, or play the scenario anew"
        )


def _files(scenario: Scenario) -> dict[str, str]:
    try:
        return files_of(scenario)
    except ValueError as error:
        raise PlayError(str(error)) from error


def _need_own_rows(scenario: Scenario) -> None:
    for place in scenario.roster():
        grant = getattr(place.group.behaviour, "grant", None)
        if grant is not None and (grant.pool or grant.group):
            raise ValueError(
                f"{place.name} crafts rows with what it knows of others' data, which nobody grants "
                "it on real machines: expected knowledge: own and coordination: none, or another "
                "runtime"
            )


def _need_no_owner(scenario: Scenario) -> None:
    private = [p.name for p in scenario.roster() if isinstance(p.group.behaviour, Private)]
    if private:
        raise ValueError(
            f"{private[0]} is a private agent, which its owner plays: expected --runtime grpc with "
            "--connection"
        )


def _play(
    scenario: Scenario,
    runtime: str,
    connection: Path | None,
    observe: Observer,
    wrap: Callable[[Grid], Grid],
    keeper: Checkpointer,
) -> Game:
    games: list[Game] = []
    with _told():
        if runtime == "local":
            _on_local(scenario, observe, games.append, wrap, keeper)
        elif runtime == "ray":
            text = json.dumps(scenario.resolved())
            server = create_server(scenario, None, observe, games.append, keeper)
            run_ray(server, create_client(text), len(scenario.roster()))
        elif runtime == "grpc":
            _on_grpc(scenario, connection, observe, games.append, keeper)
        else:
            raise ValueError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")
    return _only(games)


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line what keeps a game from being played."""
    try:
        yield
    except RunFolderError:
        raise
    except (ValueError, RuntimeError, OSError) as error:
        raise PlayError(" ".join(str(error).split())) from error


def _only(games: Sequence[Game]) -> Game:
    if not games:
        raise PlayError("the server app ended without a result; see the messages above")
    return games[0]


def _on_local(
    scenario: Scenario,
    observe: Observer,
    finish: Callable[[Game], None],
    wrap: Callable[[Grid], Grid],
    keeper: Checkpointer,
    dealt: Partitioning | None = None,
    known: ModelCache | None = None,
) -> None:
    dealt = dealt or deal_scenario(scenario)
    server = create_server(scenario, dealt, observe, finish, keeper, known)
    client, cohort = create_apps(scenario, dealt)
    run_local(server, client, [place.name for place in scenario.roster()], wrap, cohort)


def _on_grpc(
    scenario: Scenario,
    connection: Path | None,
    observe: Observer,
    finish: Callable[[Game], None],
    keeper: Checkpointer,
) -> None:
    from backfire.runtimes.grpc.server import Connection, run_grpc

    if connection is None:
        raise ValueError("the runtime grpc needs --connection with the folder of a deployment")
    text, dealt = json.dumps(scenario.resolved()), deal_scenario(scenario)
    server = create_server(scenario, dealt, observe, finish, keeper)
    table = {"shape": dealt.data.shape, "class_names": dealt.data.class_names}
    config = {"scenario": text, "table": json.dumps(table)}
    run_grpc(server, Connection.read(connection), config, int(scenario.max_message_mib * 2**20))
