"""Ctrl-C while models train in several threads.

Python raises `KeyboardInterrupt` in the main thread alone. That thread then waits for the training
threads, which would train to their end, for hours perhaps. So a Ctrl-C is also remembered, and
whichever thread reports its next step (at the latest at the end of an epoch) stops there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from server.events import Event, Observer


@contextmanager
def interruptible(observe: Observer) -> Iterator[Observer]:
    """Give an observer that ends every thread that reports to it after a Ctrl-C.

    Where Ctrl-C is not Python's own (another thread than the main one, a handler of the caller's,
    a job in the background), nothing is changed.

    Args:
        observe: Told of each step until then.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield observe
        return
    stopped = threading.Event()

    def watched(event: Event) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        observe(event)

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, stop)
    try:
        yield watched
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
