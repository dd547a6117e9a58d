"""One process for each folder: a lock that the operating system frees when its holder dies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

NAME = "lock"


class Locked(Exception):
    """Somebody else holds the lock.

    Attributes:
        pid: Process id of the holder as it wrote it down, or "unknown".
    """

    def __init__(self, pid: str) -> None:
        super().__init__(f"process {pid} holds the lock")
        self.pid = pid


def locked_now(handle: int) -> bool:
    """Lock an open file at once; return False where somebody else holds it.

    The lock lives as long as the open file does: until every process that has its descriptor,
    by inheritance too, has closed it or is dead, however it died.

    Args:
        handle: Descriptor of a file that was opened for writing.

    Raises:
        OSError: If the file system cannot lock.
    """
    return lock_descriptor(handle, blocking=False)


@dataclass
class Lock:
    """A lock, held until it is released.

    Attributes:
        path: The lock file; it holds the process id of the holder.
        handle: Its open file descriptor, on which the lock lives; None once released.
    """

    path: Path
    handle: int | None

    @classmethod
    def take(cls, folder: Path) -> Lock:
        """Take the lock of a folder at once, also when a dead process left its file behind.

        Raises:
            Locked: If a living process holds it.
            OSError: If the file system cannot lock.
        """
        path = folder / NAME
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not locked_now(handle):
                    raise Locked(_holder(handle))
            except (OSError, Locked):
                os.close(handle)
                raise
            if _is_still(path, handle):
                break
            # The holder removed the file between our opening and our locking it.
            os.close(handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return cls(path, handle)

    def release(self) -> None:
        """Remove the lock file and let others in; a second call does nothing."""
        if self.handle is not None:
            self.path.unlink(missing_ok=True)
            os.close(self.handle)
            self.handle = None


def _holder(handle: int) -> str:
    pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
    return pid if pid.isdigit() else "unknown"


def _is_still(path: Path, handle: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
