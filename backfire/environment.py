"""Quiet surroundings: libraries that would call home or chatter are told not to.

`prepare` must run before Flower or Ray is imported. What the user has set stays as it is.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

SWITCHES: Final[dict[str, str]] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class _WarningsOnly(logging.Filter):
    """Lets warnings and errors through."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


# The packages that come with `backfire` and have general names.
_ROOMS: Final = ("server", "clients", "strategies", "scenarios", "learning")


def own_rooms_first() -> None:
    """Let `server`, `clients` and the others be ours where a file of such a name stands nearby.

    Raises:
        ImportError: If another module of such a name is imported already; one line.
    """
    house = Path(__file__).resolve().parents[1]
    places = {room: _place(room) for room in _ROOMS}
    foreign = {room: at for room, at in places.items() if at is None or at.parent != house}
    for room in foreign:
        if room in sys.modules:
            where = getattr(sys.modules[room], "__file__", None)
            raise ImportError(
                f"expected the package {room} of Backfire, got {where}: rename that file"
            )
    if foreign:
        sys.path.insert(0, str(house))


def _place(room: str) -> Path | None:
    """Return the folder that a package would be imported from."""
    found = find_spec(room)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))).resolve()


def prepare() -> None:
    """Set the switches that are not set yet, and quieten Flower's log; calling twice is harmless.

    Flower sets the level of its logger when it is imported, so that a filter is used instead.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    _never_proxy_ourselves()
    logger = logging.getLogger("flwr")
    if not any(isinstance(item, _WarningsOnly) for item in logger.filters):
        logger.addFilter(_WarningsOnly())


def _never_proxy_ourselves() -> None:
    """Keep what stays on this machine away from a proxy that the environment names."""
    for name in ("no_proxy", "NO_PROXY"):
        kept = os.environ.get(name, "")
        missing = [host for host in _LOOPBACK if host not in kept.split(",")]
        os.environ[name] = ",".join([*filter(None, [kept]), *missing])
