"""A process that outlives the command that started it, told apart from one that got its number.

A pid file holds the process's number and the moment it started. A number is given to another
process sooner or later; the moment is not, so that no stranger is ever signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from backfire.deployment import files

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """A process of this machine.

    Attributes:
        pid: Its number.
        started: When it started, in words that no other process of that number shares.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process of a number, or None where there is none that lives."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """Return the process of a pid file, or None where the file or the process is gone."""
        try:
            told = json.loads(path.read_bytes())
            process = cls(int(told["pid"]), str(told["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return process if process.lives() else None

    def write(self, path: Path) -> None:
        """Write a pid file."""
        files.write(path, json.dumps(asdict(self)).encode() + b"\n")

    def lives(self) -> bool:
        """Return whether this very process still runs."""
        return self.pid > 0 and _started(self.pid) == self.started

    def stop(self, grace: float) -> bool:
        """End the process: ask, wait, then kill.

        Args:
            grace: Seconds between the two.

        Returns:
            Whether it ended when asked.
        """
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            self._signal(number)
            if self._ended(patience):
                return number is signal.SIGTERM
        raise TimeoutError(f"the process {self.pid} does not end, not even when it is killed")

    def _signal(self, number: signal.Signals) -> None:
        """Signal this very process; where it is gone, nobody."""
        try:
            handle = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            return
        except OSError:  # a kernel without them
            handle = None
        try:
            # A handle stays with its process, so that it cannot be another one after this line.
            if self.lives():
                if handle is None:
                    os.kill(self.pid, number)
                else:
                    signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        finally:
            if handle is not None:
                os.close(handle)

    def _ended(self, patience: float) -> bool:
        until = time.monotonic() + patience
        while self.lives():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


def _started(pid: int) -> str | None:
    """Return when a process started; None where it is gone, or dead and not yet buried."""
    try:
        # The name of a process, in brackets, may hold anything.
        told = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if _BOOT.exists() else _started_by_ps(pid)
    if told[0] in "ZX":
        return None
    return f"{_BOOT.read_text().strip()}:{told[19]}"


def _started_by_ps(pid: int) -> str | None:
    """The same where there is no /proc, as on macOS."""
    told = subprocess.run(  # noqa: S603 - a number is all that varies
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, started = told.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
