"""Flower's SuperLink as a process: started with TLS and node authentication, found again, ended.

It runs no code of any run (`--isolation process`, and no superexec beside it): it carries messages
between the agents and the process that plays the game. While it lives it holds a lock on
``state/link.lock``, so that one deployment has one SuperLink whatever the pid file says.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

from backfire.deployment import files
from backfire.deployment.layout import CONTROL_HOST, Deployment
from backfire.deployment.processes import Process
from backfire.environment import SWITCHES
from backfire.errors import DeployError
from backfire.runtimes.grpc import probe
from scenarios.text.quoting import printable
from server.store.lock import locked_now

PROGRAM: Final = "flower-superlink"
GRACE: Final = 10.0
# Flower's program, with limits on what an agent may do.
_GUARDED: Final = Path(__file__).resolve().parents[1] / "runtimes" / "flower" / "superlink.py"
_LOG_LIMIT = 16 * 2**20
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# One line for each access of the Control API would fill the disk.
_LEVEL = "WARNING"


def program() -> Path:
    """Return Flower's own program, beside this Python.

    Raises:
        DeployError: If Flower is not installed there.
    """
    found = Path(sys.executable).with_name(PROGRAM)
    if not found.is_file():
        raise DeployError(
            f"{PROGRAM} is missing beside {printable(sys.executable)}: install Backfire into this "
            'Python, or "flwr>=1.39,<1.40"'
        )
    return found


def flower_version() -> str:
    """Return the version of Flower that is installed; "" where none is."""
    try:
        return metadata.version("flwr")
    except metadata.PackageNotFoundError:
        return ""


def pid_file(deployment: Deployment) -> Path:
    """Return the file that says which process is the SuperLink."""
    return deployment.state / "link.pid"


def log_file(deployment: Deployment) -> Path:
    """Return the file that the SuperLink writes its log to."""
    return deployment.state / "link.log"


def running(deployment: Deployment) -> Process | None:
    """Return the SuperLink's process, or None."""
    return Process.read(pid_file(deployment))


@contextmanager
def locked(deployment: Deployment, patience: float = 0.0) -> Iterator[int | None]:
    """Take the deployment's lock; yield its handle, or None where a SuperLink holds it.

    A SuperLink that is started with the handle keeps the lock until it ends.

    Args:
        deployment: The deployment.
        patience: Seconds to wait for a SuperLink that is ending: its first thread, which it is
            known by, may be gone before the others are, and before the lock is free.

    Raises:
        DeployError: If the file system cannot lock.
    """
    until = time.monotonic() + patience
    handle = os.open(deployment.state / "link.lock", os.O_RDWR | os.O_CREAT, files.SECRET)
    try:
        while not (taken := _locked_now(handle, deployment)):
            if running(deployment) is not None or time.monotonic() > until:
                break
            time.sleep(0.05)
        yield handle if taken else None
    finally:
        os.close(handle)


def _locked_now(handle: int, deployment: Deployment) -> bool:
    try:
        return locked_now(handle)
    except OSError as error:
        raise DeployError(
            f"{deployment.state}: expected a file system with locks, got: "
            f"{error.strerror or error}; put the deployment on a local disk"
        ) from None


def check(deployment: Deployment) -> None:
    """Look at all that would keep a SuperLink from starting.

    Raises:
        DeployError: If a port is taken or the database cannot be used.
    """
    settings = deployment.settings
    _check_port(CONTROL_HOST, settings.port, "port")
    _check_port(settings.fleet_host, settings.fleet_port, "fleet_port")
    _check_database(deployment.state / "state.db")


def start(deployment: Deployment, lock: int, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start the SuperLink and write its pid file.

    Args:
        deployment: The deployment.
        lock: The handle that `locked` yielded.
        detached: Let it outlive this process, and write its log to the log file.

    Raises:
        DeployError: If it cannot be started.
    """
    _write_config(deployment)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_opened_log(deployment)) if detached else None
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter's folder
                command(deployment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=None if out is None else subprocess.STDOUT,
                cwd=deployment.flower,
                env=environment(deployment),
                start_new_session=True,
                umask=0o077,
                pass_fds=(lock,),
            )
        except OSError as error:
            raise DeployError(f"{PROGRAM} cannot be started: {error.strerror}") from None
    try:
        if (known := Process.of(process.pid)) is not None:
            known.write(pid_file(deployment))
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def command(deployment: Deployment) -> list[str]:
    """Return the command line of the SuperLink."""
    return [
        sys.executable,
        "-P",  # the folder of the guard is no place to import from
        str(_GUARDED),
        "--isolation=process",
        f"--host={CONTROL_HOST}",
        f"--port={deployment.settings.port}",
        f"--fleet-api-address={deployment.fleet_bound}",
        f"--ssl-ca-certfile={deployment.ca}",
        f"--ssl-certfile={deployment.server}",
        f"--ssl-keyfile={deployment.server_key}",
        "--enable-supernode-auth",
        f"--database={deployment.state / 'state.db'}",
        "--disable-runtime-dependency-installation",
    ]


def environment(deployment: Deployment) -> dict[str, str]:
    """Return the SuperLink's environment: ours without Flower's settings, and quiet."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    level = os.environ.get("FLWR_LOG_LEVEL", _LEVEL)
    return {**ours, **SWITCHES, "FLWR_HOME": str(deployment.flower), "FLWR_LOG_LEVEL": level}


def wait(deployment: Deployment, process: subprocess.Popen[bytes] | None, seconds: float) -> None:
    """Wait until the SuperLink answers.

    Args:
        deployment: The deployment.
        process: The SuperLink, or None where another process started it.
        seconds: How long to wait.

    Raises:
        DeployError: If it ends, or does not answer in time.
    """
    until = time.monotonic() + seconds
    while not probe.healthy(deployment.control, deployment.ca):
        if process is not None and process.poll() is not None:
            raise DeployError(
                f"the SuperLink ended with code {process.returncode} while it started"
                f"{_last_line(deployment)}; see {printable(str(log_file(deployment)))}"
            )
        if time.monotonic() > until:
            raise DeployError(
                f"the SuperLink does not answer at https://{deployment.control}/health after "
                f"{seconds:.0f} s; see {printable(str(log_file(deployment)))}"
            )
        time.sleep(0.1)


def stop(deployment: Deployment, grace: float = GRACE) -> str:
    """End the SuperLink.

    Args:
        deployment: The deployment.
        grace: Seconds that it is given to end by itself.

    Returns:
        What happened: ``stopped``, ``killed``, or ``not running``.

    Raises:
        DeployError: If it does not end, or runs where this machine cannot end it.
    """
    process = running(deployment)
    if process is None:
        with locked(deployment) as handle:
            if handle is None:
                raise DeployError(
                    "a SuperLink holds this deployment, and link.pid does not say which: it starts "
                    "just now, or runs in a container; end it there"
                )
        pid_file(deployment).unlink(missing_ok=True)
        return "not running"
    try:
        asked = process.stop(grace)
    except (OSError, TimeoutError) as error:
        raise DeployError(f"the SuperLink {process.pid} cannot be ended: {error}") from None
    pid_file(deployment).unlink(missing_ok=True)
    return "stopped" if asked else "killed"


def _check_port(host: str, port: int, field: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeployError(
            f"port {port} of {printable(host)} cannot be used: {reason}; end what uses it, or "
            f"choose another one as {field} in deploy.yaml"
        ) from None


def _check_database(path: Path) -> None:
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.Error as error:
        raise DeployError(
            f"{printable(str(path))} cannot be used: {error}; is it open elsewhere? Where it is "
            "broken, move it away: agents are registered anew, runs of the past are forgotten"
        ) from None


def _write_config(deployment: Deployment) -> None:
    """Tell Flower's command line, used with this FLWR_HOME, where the SuperLink is."""
    text = (
        '[superlink]\ndefault = "backfire"\n\n[superlink.backfire]\n'
        f"address = {json.dumps(deployment.control)}\n"
        f"root-certificates = {json.dumps(str(deployment.ca), ensure_ascii=False)}\n"
    )
    files.write(deployment.flower / "config.toml", text.encode())


@contextmanager
def _opened_log(deployment: Deployment) -> Iterator[int]:
    path = log_file(deployment)
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, files.SECRET)
    try:
        yield handle
    finally:
        os.close(handle)


def _last_line(deployment: Deployment) -> str:
    try:
        text = log_file(deployment).read_bytes()[-4000:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [_ANSI.sub("", line).strip() for line in text.splitlines()]
    told = [line for line in lines if line]
    return f" ({printable(told[-1], 300)})" if told else ""
