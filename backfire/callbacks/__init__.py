"""Who is told of a game while it is played: the run's log, progress, trackers, and guests."""

from __future__ import annotations

from backfire.callbacks.base import Callback, Guest, Observing, telling

__all__ = ["Callback", "Guest", "Observing", "telling"]
