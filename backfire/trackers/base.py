"""What a tracker is, which there are, and what is said where one is not installed."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Setting = str | int | float | bool
# By name: the package that must be installed, and the class that speaks to it.
TRACKERS: Final[Mapping[str, tuple[str, str]]] = {
    "tensorboard": ("tensorboard", "TensorBoard"),
    "wandb": ("wandb", "WandB"),
    "mlflow": ("mlflow", "MLflow"),
}


class TrackerMissingError(RuntimeError):
    """A tracker was asked for that is not installed; one line."""


class Tracker(ABC):
    """Keeps the numbers of one game or one sweep.

    Args:
        folder: Folder of its own, which may not exist yet.
        title: Name of what is played.
    """

    @abstractmethod
    def __init__(self, folder: Path, title: str) -> None: ...

    @abstractmethod
    def settings(self, values: Mapping[str, Setting]) -> None:
        """Keep what is played: fields of the scenario by path."""

    @abstractmethod
    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name; names are paths such as ``round/cutmix/clean_accuracy``.

        Args:
            values: Finite numbers.
            step: Round, epoch or cell; the same name may come with an earlier step than before.
        """

    @abstractmethod
    def cell(
        self, name: str, at: Mapping[str, Setting], values: Mapping[str, float], step: int
    ) -> None:
        """Keep one cell of a sweep.

        Args:
            name: The cell's name.
            at: Its axes and its seed.
            values: Its scores by name.
            step: How many cells have been told of before.
        """

    @abstractmethod
    def close(self, *, finished: bool) -> None:
        """Write what is left.

        Args:
            finished: False where the game was cut off.
        """


def need_trackers(names: Sequence[str]) -> None:
    """Check that trackers exist and are installed.

    Raises:
        ValueError: If there is no tracker of a name.
        TrackerMissingError: If one is not installed; says how to install it.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"expected a tracker of {', '.join(TRACKERS)}, got {name!r}")
        if importlib.util.find_spec(TRACKERS[name][0]) is None:
            raise TrackerMissingError(
                f"--track {name} needs {TRACKERS[name][0]}: install it with  "
                f"pip install 'backfire[{name}]'  (in a clone: pip install -e '.[{name}]'), or "
                "leave --track out"
            )


def open_tracker(name: str, folder: Path, title: str) -> Tracker:
    """Return a tracker that writes under `folder`.

    Args:
        name: One of `TRACKERS`, installed.
        folder: Where all trackers write; each has a folder of its own in it.
        title: Name of what is played.
    """
    module = importlib.import_module(f"backfire.trackers.{name}")
    tracker: Any = getattr(module, TRACKERS[name][1])(folder / name, title)
    assert isinstance(tracker, Tracker)  # noqa: S101 - for the type checker
    return tracker
