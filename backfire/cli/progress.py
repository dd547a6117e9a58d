"""Shows a game while it is played: bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from backfire.terminal import time_left
from scenarios.text.quoting import printable
from server.events import Event, Observer

STEPS = 10
# The engine tells its training in hundredths.
PERCENT = 100
ROUND = "round"
MIN_SECONDS = 1.0
MAX_SECONDS = 10.0


@contextmanager
def watched(console: Console, *, plain: bool = False) -> Iterator[Observer]:
    """Give an observer for the time of one game.

    Args:
        console: Where to show it; the standard error, so that results can be piped.
        plain: Lines even on a terminal.
    """
    if plain or not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


class Lines:
    """Prints a line when a phase begins and ends, and at each tenth of it.

    In between at most one line a second, and at least one every ten seconds.

    Args:
        console: Where to print.
        clock: Seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last: dict[str, tuple[int, float]] = {}
        self._outlook = Outlook(clock)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        tenth = STEPS * event.done // event.total if event.total > 0 else event.done
        now = self._clock()
        with self._lock:
            left = self._outlook(event)
            if event.phase in self._last and event.done != event.total:
                before, shown_at = self._last[event.phase]
                if now - shown_at < (MAX_SECONDS if tenth == before else MIN_SECONDS):
                    return
            self._last[event.phase] = (tenth, now)
            behind = f"; {left}" if left else ""
            self._console.print(Text(_line(event) + behind), soft_wrap=True)


class Outlook:
    """Says how long the longest part of a game will still take: its rounds, else its training.

    A game may train several times; what is said is of the training that runs. Nothing is said of
    the first seconds, which tell too little.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = "training"
        self._began: tuple[float, float] | None = None
        self._share = 0.0

    def __call__(self, event: Event) -> str:
        """Take an event in; return the time that is left in words, "" where it is not known."""
        if event.phase == ROUND != self._phase:
            self._phase, self._began = ROUND, None
        if event.phase != self._phase or event.total <= 0:
            return ""
        now, share = self._clock(), event.done / event.total
        if self._began is None or share < self._share:  # the first step, or another training
            self._began = now, share
        self._share = share
        since, gained = now - self._began[0], share - self._began[1]
        if since < MIN_SECONDS or gained <= 0 or share >= 1:
            return ""
        return time_left(since * (1 - share) / gained)


class Bars:
    """Moves a bar for each phase.

    Args:
        progress: Rich's display, already live.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._outlook = Outlook()
        self._whole = progress.add_task("game", total=None, note="")
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Show an event; one without a step is a line above the bars."""
        if event.note and not event.done and not event.total:
            self._progress.console.print(Text(_line(event)), soft_wrap=True)
            return
        total = event.total if event.total > 0 else None
        note = printable(event.note, 60)
        with self._lock:
            if left := self._outlook(event):
                self._progress.update(self._whole, note=left)
            if event.phase not in self._tasks:
                name = printable(event.phase, 30)
                self._tasks[event.phase] = self._progress.add_task(name, total=total, note=note)
            self._progress.update(
                self._tasks[event.phase], completed=event.done, total=total, note=note
            )


def _line(event: Event) -> str:
    count = f" {event.done}/{event.total}" if event.total > 0 else ""
    if event.phase == "training" and event.total == PERCENT:
        count = f" {event.done} %"
    note = f": {printable(event.note, 200)}" if event.note else ""
    return f"{printable(event.phase, 40)}{count}{note}"
