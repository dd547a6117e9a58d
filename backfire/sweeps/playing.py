"""Plays a sweep: what is missing, several cells at a time, until every cell is done.

A cell counts once its run folder is finished and whole, so that a sweep that was killed anywhere is
gone on with by starting it again, to the same table.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backfire.evidence.rows import ScoreRow
from backfire.interrupt import interruptible
from backfire.playing import PlayError
from backfire.sweeps.devices import DeviceTurns, on_device
from backfire.sweeps.folder import SweepFolder
from backfire.sweeps.workers import Crew, Done, ProcessCrew, Task
from learning.training.device import usable_cores
from learning.training.engine.engine import pick_device
from scenarios.sweep.spec import Cell, Sweep
from server.errors import RunFolderError
from server.events import ignore

RUNTIMES: Final = ("local", "ray")
# How often a cell may be in play when a process dies; it may have been another cell's doing.
_DEATHS: Final = 2


@dataclass(frozen=True)
class Failure:
    """A cell that could not be played.

    Attributes:
        cell: Which.
        message: Why, one line.
    """

    cell: Cell
    message: str


@dataclass(frozen=True)
class PlayedSweep:
    """What came of a sweep.

    Attributes:
        folder: Its folder.
        rows: The long table; empty where a cell failed, since the sweep is not finished then.
        failed: Cells that could not be played, in the order of the sweep.
        played: Games played now.
        already: Games that had been played before.
        seconds: Of all games that were played now, added up.
    """

    folder: Path
    rows: Sequence[ScoreRow]
    failed: Sequence[Failure]
    played: int
    already: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """How far a sweep is.

    Attributes:
        done: Games that are finished or failed.
        total: All games; cells that are the same game are played once.
        playing: Cells in play.
        last: The cell that has just ended, if any.
        error: Why it failed; "" where it did not.
        seconds: How long it took.
        left: Seconds that the rest will take, as far as known.
        folder: The sweep's folder.
    """

    done: int
    total: int
    playing: Sequence[Cell]
    last: Cell | None = None
    error: str = ""
    seconds: float = 0.0
    left: float | None = None
    folder: Path = Path()


Watcher = Callable[[Step], None]


def play_sweep(
    sweep: Sweep,
    out: Path = Path("runs"),
    *,
    jobs: int | None = None,
    runtime: str = "local",
    devices: Sequence[str] = (),
    watch: Watcher = lambda step: None,
) -> PlayedSweep:
    """Play the cells of a sweep that are not played yet; write its table when all are.

    Args:
        sweep: What to play.
        out: Folder that the sweep's folder is made in.
        jobs: Cells played at a time; by default one for each CPU core or GPU that is used, and
            on Ray as many as there is room for.
        runtime: ``local``, processes of this machine; or ``ray``, tasks of a Ray cluster.
        devices: Devices that the cells are spread over, instead of the scenario's own; of one
            kind, such as ``cuda:0`` and ``cuda:1``.
        watch: Told when a cell begins or ends.

    Raises:
        PlayError: If the runtime is not there.
        RunFolderError: If another process plays this sweep, or its folder cannot be written.
        KeyboardInterrupt: After a Ctrl-C or a SIGTERM, with the folder as its text; the sweep can
            be gone on with.
    """
    if runtime not in RUNTIMES:
        raise PlayError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")
    folder = SweepFolder.take(out, sweep)
    try:
        games = list({cell.digest: cell for cell in reversed(sweep.cells)}.values())[::-1]
        missing = [cell for cell in games if not folder.finished(cell)]
        turns = DeviceTurns(devices)
        table = _ScoreTable(folder, deque(missing), len(games), watch, turns)
        if missing:
            folder.unfinish()
            with interruptible(ignore):
                table.play(lambda: _crew(runtime, jobs, missing, devices))
        order = {cell.digest: place for place, cell in enumerate(games)}
        failed = sorted(table.failed, key=lambda failure: order[failure.cell.digest])
        rows = [] if failed else folder.write_scores()
        already = len(games) - len(missing)
        played = len(missing) - len(failed)
        return PlayedSweep(folder.path, rows, failed, played, already, table.seconds)
    except KeyboardInterrupt as stopped:
        stopped.args = (str(folder.path),)
        raise
    finally:
        folder.close()


def _crew(
    runtime: str, jobs: int | None, cells: Sequence[Cell], devices: Sequence[str] = ()
) -> Crew:
    cores = usable_cores()
    if runtime == "ray":
        from backfire.sweeps.ray_crew import RayCrew

        try:
            return RayCrew(jobs, 1)
        except RuntimeError as error:
            raise PlayError(str(error)) from error
    names = devices or (cells[0].scenario.compute.device,)
    try:
        gpus = sum(pick_device(name).type != "cpu" for name in names)
    except (ValueError, RuntimeError) as error:
        raise PlayError(str(error)) from error
    size = min(jobs or gpus or cores, len(cells))
    return ProcessCrew(size, max(1, cores // size))


@dataclass
class _ScoreTable:
    """The cells in play.

    Attributes:
        folder: The sweep's.
        waiting: Cells that no worker has yet.
        total: All games of the sweep.
        watch: Told of each step.
        devices: The devices that cells are played on in turn.
    """

    folder: SweepFolder
    waiting: deque[Cell]
    total: int
    watch: Watcher
    devices: DeviceTurns = field(default_factory=DeviceTurns)
    failed: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    _open: dict[Future[Done], Cell] = field(default_factory=dict)
    _places: dict[Future[Done], str | None] = field(default_factory=dict)
    _deaths: dict[str, int] = field(default_factory=dict)
    _took: list[float] = field(default_factory=list)

    def play(self, crew: Callable[[], Crew]) -> None:
        """Play all waiting cells with the workers that `crew` gives, anew after one has died."""
        while self.waiting:
            workers = crew()
            kill = True
            try:
                kill = not self._play(workers)
            finally:
                workers.close(kill=kill)

    def _play(self, workers: Crew) -> bool:
        """Play until all cells are done, or until a worker dies; return whether none did."""
        alive = True
        while self._open or (self.waiting and alive):
            while alive and self._may_give(workers):
                alive = self._give(self.waiting.popleft(), workers)
            for future in wait(self._open, return_when=FIRST_COMPLETED).done:
                self.devices.free(self._places.pop(future))
                alive = self._end(self._open.pop(future), future, workers) and alive
        return alive

    def _may_give(self, workers: Crew) -> bool:
        """Return whether the next cell can be given to a worker now.

        One that was in play when a process died is played alone, so that it costs no other's try.
        """
        if not self.waiting or len(self._open) >= workers.size:
            return False
        together = [self.waiting[0], *self._open.values()]
        return len(together) == 1 or not any(cell.digest in self._deaths for cell in together)

    def _give(self, cell: Cell, workers: Crew) -> bool:
        """Give a cell to a worker; return whether there is one."""
        device = self.devices.take()
        text = json.dumps(on_device(cell.scenario.resolved(), device))
        try:
            future = workers.submit(Task(str(self.folder.cells), text))
        except RuntimeError:  # a worker died since
            self.devices.free(device)
            self.waiting.appendleft(cell)
            return False
        self._open[future], self._places[future] = cell, device
        self._tell(workers)
        return True

    def _end(self, cell: Cell, future: Future[Done], workers: Crew) -> bool:
        """Take what became of a cell; return whether its worker is alive."""
        error = future.exception()
        if error is not None:  # the worker's end, as the cell's own errors are told in words
            self._deaths[cell.digest] = self._deaths.get(cell.digest, 0) + 1
            if self._deaths[cell.digest] < _DEATHS:
                self.waiting.appendleft(cell)
            else:
                self._fail(cell, "its process died: killed, out of memory, or crashed", workers)
            return False
        done = future.result()
        message = done.error or self._kept(cell, done)
        if message:
            self._fail(cell, message, workers)
        else:
            self.seconds += done.seconds
            self._took.append(done.seconds)
            self._tell(workers, cell, done.seconds)
        return True

    def _kept(self, cell: Cell, done: Done) -> str:
        """Take a played cell's run folder; return what is wrong with it."""
        try:
            self.folder.receive(cell, done)
        except RunFolderError as error:
            return str(error)
        return "" if self.folder.finished(cell) else "its run folder is not whole"

    def _fail(self, cell: Cell, message: str, workers: Crew) -> None:
        self.failed.append(Failure(cell, message))
        self._tell(workers, cell, error=message)

    def _tell(
        self, workers: Crew, last: Cell | None = None, seconds: float = 0.0, error: str = ""
    ) -> None:
        open_ = len(self._open) + len(self.waiting)
        left = None
        if self._took:
            left = sum(self._took) / len(self._took) * open_ / min(workers.size, max(open_, 1))
        self.watch(
            Step(
                done=self.total - open_,
                total=self.total,
                playing=list(self._open.values()),
                last=last,
                error=error,
                seconds=seconds,
                left=left,
                folder=self.folder.path,
            )
        )
