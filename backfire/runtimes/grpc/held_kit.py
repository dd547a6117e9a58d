"""A kit is used by one process at a time, and its agent comes back at once after a crash.

A server lets nobody in whose last session has not run out, so that a second process cannot play
with a key that is in use. After a crash that takes a minute. The number of the session, kept in
the kit, lets the agent go on with it; on another machine, or after a reboot, it is not believed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from server.store.lock import locked_now

PLACE: Final = "agent.lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class PlaceTaken(RuntimeError):
    """Another process plays with this kit, or that cannot be ruled out; one line."""


class HeldKit:
    """A kit that this process holds.

    Args:
        handle: Of the open file, or None where the kit cannot be written to.
        server: Host and port of the Fleet API, for which a number holds.
    """

    def __init__(self, handle: int | None, server: str) -> None:
        self._handle, self._server = handle, server

    def session(self) -> int | None:
        """Return the agent's number at the server from a session that was never closed, or None."""
        if self._handle is None:
            return None
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(os.pread(self._handle, 1000, 0))
            if (told["server"], told["boot"]) == (self._server, _boot()):
                return int(told["node"])
        return None

    def keep(self, node_id: int | None) -> None:
        """Keep the number of a session; None: the session was closed."""
        if self._handle is None:
            return
        told = {"server": self._server, "boot": _boot(), "node": node_id, "pid": os.getpid()}
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            if node_id is not None:
                os.pwrite(self._handle, json.dumps(told).encode() + b"\n", 0)


@contextmanager
def place(kit: Path, server: str) -> Iterator[HeldKit]:
    """Take a kit; where it cannot be written to, it is not known whether another process has it.

    Args:
        kit: The folder.
        server: Host and port of the Fleet API.

    Raises:
        PlaceTaken: If another process has it, or its file system cannot lock.
    """
    try:
        handle = os.open(kit / PLACE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield HeldKit(None, server)
        return
    try:
        _lock(handle, kit)
        yield HeldKit(handle, server)
    finally:
        os.close(handle)


def _lock(handle: int, kit: Path) -> None:
    try:
        free = locked_now(handle)
    except OSError as error:
        raise PlaceTaken(
            f"{kit}: expected a file system with locks, got: {error.strerror or error}; "
            "put the kit on a local disk"
        ) from None
    if not free:
        raise PlaceTaken(f"another process plays with the kit {kit}; end it first")


def _boot() -> str | None:
    """Return what names this boot of this machine; None where it cannot be told."""
    with suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return None
