"""Experiment trackers: TensorBoard, W&B and MLflow, each an extra and each optional.

A tracker is told of a game's rounds and scores and of a sweep's cells. Nothing that it does changes
a game, and nothing leaves the machine unless the user's own environment says so (`WANDB_MODE`,
`MLFLOW_TRACKING_URI`).
"""

from __future__ import annotations

from backfire.trackers.base import (
    TRACKERS,
    Tracker,
    TrackerMissingError,
    need_trackers,
    plugin,
    tracker_names,
)
from backfire.trackers.telling import Tracked, Tracking, tracking

__all__ = [
    "TRACKERS",
    "Tracked",
    "Tracker",
    "TrackerMissingError",
    "Tracking",
    "need_trackers",
    "plugin",
    "tracker_names",
    "tracking",
]
