"""What is told of a game: its start, each of its events, its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scenarios.scenario import Scenario
from server.events import Event, Observer
from server.referee.results import GameResult


class Callback:
    """Told of a game while it is played; each method does nothing by itself.

    Nothing that a callback does changes the game. Events can come from several threads, one at a
    time of each training that runs.
    """

    def on_start(self, scenario: Scenario, folder: Path) -> None:
        """Hear what is about to be played.

        Args:
            scenario: What is played; all of it, the secrets of attackers included.
            folder: The run folder.
        """

    def on_event(self, event: Event) -> None:
        """Hear of a step of the game; `server.events.Event` says what it holds."""

    def on_end(self, result: GameResult | None) -> None:
        """Hear that it is over.

        Args:
            result: The scores, which are in the run folder already; None where the game was cut
                off before.
        """


class Observing(Callback):
    """Passes events on to a function.

    Args:
        observe: Told of each event.
    """

    def __init__(self, observe: Observer) -> None:
        self._observe = observe

    def on_event(self, event: Event) -> None:
        """Pass it on."""
        self._observe(event)


class Guest(Callback):
    """Somebody else's callback: if it fails, that is told, and it is told no more.

    Args:
        name: What it is called.
        inner: The callback.
        observe: Told where it fails.
    """

    def __init__(self, name: str, inner: Callback, observe: Observer) -> None:
        self._name, self._observe = name, observe
        self._inner: Callback | None = inner

    def on_start(self, scenario: Scenario, folder: Path) -> None:
        """Pass it on."""
        self._tell(lambda inner: inner.on_start(scenario, folder))

    def on_event(self, event: Event) -> None:
        """Pass it on."""
        self._tell(lambda inner: inner.on_event(event))

    def on_end(self, result: GameResult | None) -> None:
        """Pass it on."""
        self._tell(lambda inner: inner.on_end(result))

    def _tell(self, call: Callable[[Callback], None]) -> None:
        if self._inner is None:
            return
        try:
            call(self._inner)
        except Exception as error:  # somebody else's code: anything at all
            self._inner = None
            why = " ".join(str(error).split()) or type(error).__name__
            self._observe(
                Event("callback", 0, 0, f"{self._name} failed and is told no more: {why}")
            )


class Telling:
    """Tells several callbacks, in their order; called with an event it is an observer."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)
        self._result: GameResult | None = None

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        for callback in self._callbacks:
            callback.on_event(event)

    def finished(self, result: GameResult) -> None:
        """Keep what is told at the end."""
        self._result = result

    def start(self, scenario: Scenario, folder: Path) -> None:
        """Tell of the start."""
        for callback in self._callbacks:
            callback.on_start(scenario, folder)

    def end(self) -> None:
        """Tell of the end, with the scores where they were reached."""
        for callback in self._callbacks:
            callback.on_end(self._result)


@contextmanager
def telling(callbacks: Sequence[Callback], scenario: Scenario, folder: Path) -> Iterator[Telling]:
    """Tell callbacks of a game for the span of a `with` block, which plays it.

    Args:
        callbacks: In the order in which they are told.
        scenario: What is played.
        folder: The run folder.
    """
    told = Telling(callbacks)
    told.start(scenario, folder)
    try:
        yield told
    finally:
        told.end()
