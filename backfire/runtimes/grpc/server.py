"""The server's end of a game on real machines: a run of the SuperLink, played in this process.

The SuperLink carries messages between the server and the agents, and knows agents by the name that
their key is registered under. The server's part of a run is taken over by the process that submits
it, so that its progress, its run folder and its exit code are those of any other run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from flwr.app import RecordDict
from flwr.serverapp import ServerApp

from backfire.runtimes.flower.control import ControlError, control
from backfire.runtimes.flower.server_api import FleetError, LinkGrid, claimed_grid
from backfire.runtimes.grpc.probe import healthy
from backfire.runtimes.guarded_grid import ECHO, GuardedGrid

__all__ = ["ECHO", "Connection", "GuardedGrid", "run_grpc", "toml"]

_APP = """from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

# Nothing here is ever run: server and agents run the Backfire that is installed where they are.
app = ServerApp()
client = ClientApp()
"""


@dataclass(frozen=True)
class Connection:
    """Where a SuperLink is reached from the server.

    Attributes:
        address: Host and port of its Runtime and Control API.
        ca: File of the certificate that its own is signed by.
    """

    address: str
    ca: Path

    @classmethod
    def read(cls, folder: Path) -> Connection:
        """Read the connection of a folder that `backfire deploy init` made.

        Raises:
            FleetError: If it is none; one line.
        """
        try:
            told = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
            port = int(told["port"])
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
            raise FleetError(
                f"expected a folder made by `backfire deploy init` with a deploy.yaml, got {folder}"
            ) from None
        ca = folder / "pki" / "ca.crt"
        if not ca.is_file():
            raise FleetError(
                f"expected the certificate {ca}; see `backfire deploy status {folder}`"
            )
        return cls(f"127.0.0.1:{port}", ca.resolve())


def run_grpc(server: ServerApp, connection: Connection, config: dict[str, str], most: int) -> None:
    """Play a game over a SuperLink.

    Args:
        server: The defender's app.
        connection: Where the SuperLink is.
        config: The run's settings, which every agent is given.
        most: Largest reply that is taken, in bytes.

    Raises:
        FleetError: If the SuperLink cannot be reached or refuses the run.
    """
    from flwr.app import Context

    with _Runs(connection, config, most) as runs:
        grid = runs.begin()
        context = Context(
            run_id=grid.run.run_id, node_id=1, node_config={}, state=RecordDict(), run_config={}
        )
        server(GuardedGrid(grid, runs.begin), context)


class _Runs:
    """The runs of one game: one, and another where the SuperLink gives it up."""

    def __init__(self, connection: Connection, config: dict[str, str], most: int) -> None:
        self._connection, self._config, self._most = connection, config, most
        self._stack = ExitStack()

    def __enter__(self) -> _Runs:
        return self

    def __exit__(self, *failure: Any) -> None:  # noqa: ANN401 - as every context manager has it
        self._stack.__exit__(*failure)
        address, ca = self._connection.address, self._connection.ca.read_bytes()
        with suppress(ControlError), control(address, ca) as link:
            link.sweep()

    def begin(self) -> LinkGrid:
        """End the run that was begun, begin another, and return its grid."""
        self._stack.close()
        address, ca = self._connection.address, self._connection.ca.read_bytes()
        run_id = _submitted(self._connection, self._config)
        grid = self._stack.enter_context(claimed_grid(address, ca, run_id))
        grid.most = self._most
        return grid


def _submitted(connection: Connection, config: dict[str, str]) -> int:
    """Submit a run of an empty app that carries the settings; return its id."""
    flwr = Path(sys.executable).with_name("flwr")
    with _workplace(connection, config) as (app, environment):
        command = [str(flwr), "run", str(app), "backfire", "--format", "json"]
        done = subprocess.run(  # noqa: S603 - our own interpreter's folder, arguments of ours
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    try:
        told = json.loads(done.stdout[done.stdout.index("{") :])
        if told.get("success"):
            return int(told["run-id"])
        reason = str(told.get("error-message") or told)
    except ValueError:
        reason = done.stderr or done.stdout or f"exit code {done.returncode}"
    if not healthy(connection.address, connection.ca):
        raise FleetError(
            f"the SuperLink at {connection.address} does not answer: `backfire deploy up` with the "
            "folder of --connection starts it"
        )
    line = " ".join(reason.split())[-300:]
    raise FleetError(f"the SuperLink at {connection.address} took no run: {line}")


@contextmanager
def _workplace(
    connection: Connection, config: dict[str, str]
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Make a folder with an empty Flower app and a Flower home that knows the connection."""
    root = Path(tempfile.mkdtemp(prefix="backfire-"))
    try:
        app, home = root / "backfire-table", root / "home"
        app.mkdir()
        home.mkdir()
        (app / "table.py").write_text(_APP, "utf-8")
        (app / "pyproject.toml").write_text(_project(config), "utf-8")
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "backfire"\n\n[superlink.backfire]\n'
            f"address = {toml(connection.address)}\n"
            f"root-certificates = {toml(str(connection.ca))}\n",
            "utf-8",
        )
        yield app, {**os.environ, "FLWR_HOME": str(home)}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _project(config: dict[str, str]) -> str:
    settings = "\n".join(f"{name} = {toml(value)}" for name, value in config.items())
    return (
        '[project]\nname = "backfire-table"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
        'description = "A game of Backfire"\n'
        'dependencies = []\n\n[tool.flwr.app]\npublisher = "backfire"\n\n'
        '[tool.flwr.app.components]\nserverapp = "table:app"\nclientapp = "table:client"\n\n'
        f"[tool.flwr.app.config]\n{settings}\n"
    )


def toml(text: str) -> str:
    """Return text as a TOML string; JSON's form is TOML's but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
