"""With what an agent plays."""

from __future__ import annotations

from enum import StrEnum


class PlayMode(StrEnum):
    """What an agent plays with until its owner changes ``agent.yaml``."""

    PRIVATE = "private"
    SCENARIO = "scenario"
