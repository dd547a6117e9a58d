"""Which device the next cell of a sweep is played on: in turn, the least busy first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

EVERY: Final = "all"


class DeviceTurns:
    """Deals devices out in turn; one with fewer cells in play comes before one with more.

    Args:
        names: The devices, such as ``cuda:0`` and ``cuda:1``; none leaves each cell the device
            that its scenario names.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._busy = dict.fromkeys(names, 0)

    def take(self) -> str | None:
        """Return the device of the next cell, which is in play there until `free` is called."""
        if not self._busy:
            return None
        name = min(self._busy, key=self._busy.__getitem__)
        # To the end of the line: among devices that are equally busy the one that waited longest.
        self._busy[name] = self._busy.pop(name) + 1
        return name

    def free(self, name: str | None) -> None:
        """Take a device back from a cell that has ended."""
        if name is not None:
            self._busy[name] -= 1


def on_device(resolved: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """Return a resolved scenario that is played on a device; its hash is the same.

    Args:
        resolved: The scenario.
        device: None for the one that it names.
    """
    if device is None:
        return dict(resolved)
    return {**resolved, "compute": {**resolved["compute"], "device": device}}


def devices_of(text: str) -> tuple[str, ...]:
    """Return the devices of ``--devices``: names with commas between, or ``all`` GPUs.

    Raises:
        ValueError: If none is named, one is named twice, they are of several kinds, or one is not
            on this machine; one line.
    """
    from learning.training.device import gpus, pick_device

    names = gpus() if text.strip() == EVERY else tuple(part.strip() for part in text.split(","))
    if not names:
        raise ValueError(
            "expected a GPU for --devices all, but this machine has none; leave it out"
        )
    if len(set(names)) < len(names) or "" in names:
        raise ValueError(f"expected each device once after --devices, got {text!r}")
    picked = [pick_device(name) for name in names]
    if len({(one.type, one.index or 0) for one in picked}) < len(names):
        raise ValueError(
            f"expected each device once after --devices, got one under two names: {text!r}"
        )
    kinds = {str(one.type) for one in picked}
    if len(kinds) > 1:
        raise ValueError(
            f"expected devices of one kind after --devices, got {' and '.join(sorted(kinds))}: a "
            "score would depend on the device that its cell happened to get"
        )
    return names
