"""The run's own log."""

from __future__ import annotations

import threading

from backfire.callbacks.base import Callback
from server.events import Event
from server.store.run_folder import RunFolder


class Log(Callback):
    """Keeps the facts of events in `rounds.jsonl`.

    Args:
        folder: The run folder.

    Raises:
        RunFolderError: While it is told, if the folder cannot be written; the game ends.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        """Keep it, if it has facts."""
        if event.facts:
            with self._lock:
                self._folder.record({"phase": event.phase, **event.facts})
