"""Forked processes, bounded in time and memory, and the copy of the tree that they work in."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy2

from mutation.config import ROOT

_MEMORY = 6 * 2**30  # bytes of data for one child: a mutant may ask for any amount
_WALL = 900.0  # seconds for one mutant, for what waits instead of working


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a copy of the working tree, which may be changed; ignored files are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        for file in listed:
            if (ROOT / file).is_file():
                target = Path(folder) / "tree" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                copy2(ROOT / file, target)
        yield Path(folder) / "tree"


def enter(tree: Path) -> None:
    """Work in a tree: our packages are imported from it from now on, here and in subprocesses."""
    os.chdir(tree)
    here = [str(tree), str(tree / "tests")]
    sys.path[:] = here + [p for p in sys.path if Path(p) not in {ROOT, ROOT / "tests"}]
    os.environ["PYTHONPATH"] = str(tree)


def in_child(
    task: Callable[[], object], output: Path, cpu: float, wall: float = _WALL
) -> tuple[object, str]:
    """Run a task in a forked process.

    Args:
        task: What it does; its answer must be JSON.
        output: File for what it prints.
        cpu: CPU seconds after which it is killed.
        wall: Seconds after which it is killed.

    Returns:
        The answer and "", or None and how the process ended: ``time`` or ``died``.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(task, output, cpu, writing)
    os.close(writing)
    status = _wait(child, time.monotonic() + wall)
    with os.fdopen(reading) as pipe:
        text = "" if status is None else pipe.read()
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return None, "time"
    return (json.loads(text), "") if text else (None, "died")


def _be_child(task: Callable[[], object], output: Path, cpu: float, writing: int) -> None:
    try:
        os.setsid()
        used = sum(os.times()[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + cpu) + 1, int(used + cpu) + 20))
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        printed = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        answer = json.dumps(task())
        with os.fdopen(writing, "w") as pipe:
            pipe.write(answer)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _wait(child: int, deadline: float) -> int | None:
    """Return the exit status; None after the deadline. Its own children go with it."""
    status = None
    while status is None and time.monotonic() < deadline:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        if status is None:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status
