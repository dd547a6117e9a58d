"""Ctrl-C and SIGTERM while models train in several threads.

Python raises `KeyboardInterrupt` in the main thread alone. That thread then waits for the training
threads, which would train to their end, for hours perhaps. So a Ctrl-C is also remembered, and
whichever thread reports its next step (at the latest at the end of an epoch) stops there. SIGTERM,
with which supervisors stop a process, is taken the same way; the two differ in their exit code.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from server.events import Event, Observer


class Terminated(KeyboardInterrupt):
    """The process was asked to end with SIGTERM."""


@contextmanager
def interruptible(observe: Observer) -> Iterator[Observer]:
    """Yield an observer that raises in each thread that reports to it after Ctrl-C or SIGTERM.

    Where a signal is not Python's own (another thread than the main one, a handler of the caller's,
    a job in the background), nothing is changed.

    Args:
        observe: Told of each step until then.

    Raises:
        KeyboardInterrupt: After a Ctrl-C.
        Terminated: After a SIGTERM.
    """
    mine = threading.current_thread() is threading.main_thread()
    usual = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))
    taken = [(number, own) for number, own in usual if mine and signal.getsignal(number) is own]
    stopped: list[type[KeyboardInterrupt]] = []

    def watched(event: Event) -> None:
        if stopped:
            raise stopped[0]
        observe(event)

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        raise stopped[0]

    for number, _ in taken:
        signal.signal(number, stop)
    try:
        yield watched
    finally:
        for number, own in taken:
            signal.signal(number, own)
