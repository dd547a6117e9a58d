"""What a tracker is, which there are, and what is said where one is not installed."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from learning.families.offers import PLUGIN_SWITCH, Offer, PluginError, offers, switched_on
from learning.families.table import TOOLS

Setting = str | int | float | bool
# Ours, by name: the package that must be installed, and the class that speaks to it.
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


def tracker_names() -> list[str]:
    """Return whom a game can tell: our trackers, and what plug-ins offer where they are on."""
    return [*TRACKERS, *(offer.point.name for offer in _offers())]


def _offers() -> list[Offer]:
    return [offer for family in TOOLS for offer in offers(family)] if switched_on() else []


def need_trackers(names: Sequence[str]) -> None:
    """Check that trackers exist and are installed.

    Raises:
        ValueError: If there is no tracker of a name, or a plug-in is broken.
        TrackerMissingError: If one is not installed; says how to install it.
    """
    for name in names:
        if name not in TRACKERS:
            plugin(name)
        elif importlib.util.find_spec(TRACKERS[name][0]) is None:
            raise TrackerMissingError(
                f"--track {name} needs {TRACKERS[name][0]}: install it with  "
                f"pip install 'backfire[{name}]'  (in a clone: pip install -e '.[{name}]'), or "
                "leave --track out"
            )


def plugin(name: str) -> type:
    """Return the tracker or callback that another package offers under a name.

    Raises:
        ValueError: If there is none, or it cannot be imported, or it is neither; one line.
    """
    offer = next((offer for offer in _offers() if offer.point.name == name), None)
    if offer is None:
        off = [one for family in TOOLS for one in offers(family) if one.point.name == name]
        hint = f"is installed, but plug-ins are off: set {PLUGIN_SWITCH}=1"
        told = f" ({off[0]} {hint})" if off else ""
        raise ValueError(f"expected a tracker of {', '.join(tracker_names())}, got {name!r}{told}")
    try:
        found = offer.load()
    except PluginError as error:
        raise ValueError(f"the plug-in {offer} is broken: {error}") from error
    if not isinstance(found, type):
        raise ValueError(f"the plug-in {offer} is broken: expected a class, got {found!r}")
    return found


def open_tracker(name: str, folder: Path, title: str) -> Tracker:
    """Return a tracker that writes under `folder`.

    Args:
        name: One of ours, installed, or of a plug-in.
        folder: Where all trackers write; each has a folder of its own in it.
        title: Name of what is played.

    Raises:
        ValueError: If a plug-in is no tracker.
    """
    ours = TRACKERS.get(name)
    if ours is None:
        kind: Any = plugin(name)
    else:
        kind = getattr(importlib.import_module(f"backfire.trackers.{name}"), ours[1])
    tracker: Any = kind(folder / name, title)
    if not isinstance(tracker, Tracker):
        raise ValueError(f"expected a Tracker of {name}, got {type(tracker).__name__}")
    return tracker
