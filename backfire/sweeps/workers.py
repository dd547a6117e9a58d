"""The processes that play a sweep's cells: a pool on this machine, or tasks of a Ray cluster.

A worker imports what it needs once and plays many cells. Nothing here imports torch before a worker
has been told how many threads it may use.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backfire.environment import prepare

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from backfire.sweeps.cells import Player


@dataclass(frozen=True)
class Task:
    """A cell to play.

    Attributes:
        root: Folder of the cells' run folders.
        text: The resolved scenario, JSON.
    """

    root: str
    text: str


@dataclass(frozen=True)
class Done:
    """What became of a cell.

    Attributes:
        seconds: Of the game itself.
        error: Why it failed, one line; "" where it did not.
        files: The run folder's files by name, where the worker may be on another machine.
    """

    seconds: float
    error: str = ""
    files: tuple[tuple[str, bytes], ...] = ()


class Crew(Protocol):
    """Workers that play cells."""

    size: int

    def submit(self, task: Task) -> Future[Done]:
        """Let a worker play a cell."""

    def close(self, *, kill: bool) -> None:
        """End all workers: when they are done, or at once."""


class ProcessCrew:
    """Processes of this machine.

    They end when the process ends that started them, however that happens. Ctrl-C is left to it.

    Args:
        size: Number of processes.
        threads: CPU threads for each.

    Attributes:
        size: Number of processes.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size = size
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            size, mp_context=context, initializer=_start, initargs=(threads,)
        )
        self._before = {process.pid for process in multiprocessing.active_children()}

    def submit(self, task: Task) -> Future[Done]:
        """See `Crew.submit`; `BrokenProcessPool` comes of all cells if a process dies."""
        return self._pool.submit(play_task, task)

    def close(self, *, kill: bool) -> None:
        """See `Crew.close`."""
        own: list[BaseProcess] = [
            child for child in multiprocessing.active_children() if child.pid not in self._before
        ]
        for child in own if kill else ():
            child.kill()
        self._pool.shutdown(wait=not kill, cancel_futures=True)


def play_task(task: Task) -> Done:
    """Play a cell in this process; what goes wrong comes back as a line."""
    from backfire.errors import lines
    from scenarios.loader import parse

    try:
        return Done(_player().play(Path(task.root), parse(task.text, "cell")))
    except Exception as error:
        return Done(0.0, lines(error)[0].removeprefix("error: "))


@cache
def _player() -> Player:
    """Return the player of this process."""
    from backfire.sweeps.cells import Player

    return Player()


def _start(threads: int) -> None:
    """Prepare a worker process, before anything large is imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(threads)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _warm()


def _end_with(parent: BaseProcess) -> None:
    """End this process at once when the one that started it is gone."""
    parent.join()
    os._exit(1)


def use_threads(threads: int) -> None:
    """Bound the threads of this process."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch, and by learning.training.device
    import torch

    torch.set_num_threads(threads)


def _warm() -> None:
    """Import what cells need."""
    prepare()
    _player()
