"""Plays one scenario on a runtime and leaves a run folder with its report."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid

from backfire.interrupt import interruptible
from backfire.report.render import render
from backfire.runtimes.local import run_local
from backfire.runtimes.ray import need_ray, run_ray
from clients.agents import deal_scenario
from clients.app import create_app as create_client
from clients.app import create_apps
from learning.training.engine import pick_device
from scenarios.schema import Scenario
from server.app import create_app as create_server
from server.events import Event, Observer, ignore
from server.game import Game
from server.record import record
from server.results import GameResult
from server.run_folder import RunFolder

RUNTIMES = ("local", "ray")


class PlayError(RuntimeError):
    """The game could not be played; one line."""


@dataclass(frozen=True)
class PlayedGame:
    """A finished run.

    Attributes:
        result: The scores.
        folder: The run folder.
        report: Its HTML report.
    """

    result: GameResult
    folder: Path
    report: Path


def play(
    scenario: Scenario,
    *,
    runtime: str = "local",
    out: Path = Path("runs"),
    progress: Observer = ignore,
    wrap: Callable[[Grid], Grid] = lambda grid: grid,
) -> PlayedGame:
    """Play a scenario.

    Args:
        scenario: What to play.
        runtime: ``local`` or ``ray``.
        out: Folder for run folders.
        progress: Told of each step.
        wrap: Puts something between server and agents on the local runtime; for fault injection.

    Raises:
        PlayError: If the game cannot be played.
        RunFolderError: If the run folder cannot be written.
        KeyboardInterrupt: As it came; the run folder is then a valid unfinished one.
    """
    try:
        device = pick_device(scenario.compute.device)
        if runtime == "ray":
            need_ray()
    except (ValueError, RuntimeError) as error:
        raise PlayError(str(error)) from error
    with RunFolder.create(out, scenario) as folder, interruptible(progress) as observe:
        folder.write_environment(str(device), sys.argv)
        game = _play(scenario, runtime, _logged(observe, folder), wrap)
        record(game, folder)
        return PlayedGame(game.result, folder.path, render(folder.path))


def _play(
    scenario: Scenario, runtime: str, observe: Observer, wrap: Callable[[Grid], Grid]
) -> Game:
    games: list[Game] = []
    text = json.dumps(scenario.resolved())
    names = [place.name for place in scenario.roster()]
    try:
        if runtime == "local":
            dealt = deal_scenario(scenario)
            server = create_server(text, dealt, observe, games.append)
            client, cohort = create_apps(text, dealt)
            run_local(server, client, names, wrap, cohort)
        elif runtime == "ray":
            server = create_server(text, None, observe, games.append)
            run_ray(server, create_client(text), len(names))
        else:
            raise ValueError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")
    except (ValueError, RuntimeError, OSError) as error:
        raise PlayError(" ".join(str(error).split())) from error
    if not games:
        raise PlayError("the server app ended without a result; see the messages above")
    return games[0]


def _logged(progress: Observer, folder: RunFolder) -> Observer:
    """Return an observer that keeps facts in the run's log before it passes events on."""
    lock = threading.Lock()

    def observe(event: Event) -> None:
        if event.facts:
            with lock:
                folder.record({"phase": event.phase, **event.facts})
        progress(event)

    return observe
