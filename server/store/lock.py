"""One process for each run folder: a lock that the operating system frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

NAME = "lock"


class Locked(Exception):
    """Somebody else holds the lock.

    Attributes:
        pid: Process id of the holder as it wrote it down, or "unknown".
    """

    def __init__(self, pid: str) -> None:
        super().__init__(f"process {pid} holds the lock")
        self.pid = pid


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
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
                os.close(handle)
                if isinstance(error, BlockingIOError):
                    raise Locked(pid if pid.isdigit() else "unknown") from None
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


def _is_still(path: Path, handle: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
