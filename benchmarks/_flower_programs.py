"""Flower's own way over a network: its programs, and an app that does nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from backfire.deployment.layout import Deployment
from backfire.environment import SWITCHES

PATIENCE = 120.0
_APP = """
import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

# Flower looks for these two in the text of this file, and knows `name = value` alone.
client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)


@server.main()
def main(grid, context):
    while len(nodes := list(grid.get_node_ids())) < 3:
        time.sleep(0.2)
    seconds, told = [], context.run_config
    for number in range(told["rounds"]):
        model = {f"w{k}": np.full(10, number + k, np.float32) for k in range(told["arrays"])}
        record = ArrayRecord({name: Array(values) for name, values in model.items()})
        began = time.perf_counter()
        content = RecordDict({"arrays": record})
        messages = [Message(content, node, "train") for node in nodes]
        replies = list(grid.send_and_receive(messages, timeout=120))
        assert len(replies) == 3 and not any(reply.has_error() for reply in replies)
        assert all(len(reply.content["arrays"]) == told["arrays"] for reply in replies)
        seconds.append(time.perf_counter() - began)
        Path(told["out"]).write_text(json.dumps(seconds))
"""
_PROJECT = """
[project]
name = "noop"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "noop"

[tool.flwr.app.components]
serverapp = "noop:server"
clientapp = "noop:client"

[tool.flwr.app.config]
rounds = {rounds}
arrays = {arrays}
out = {out}
"""


def rounds_of_flower(made: Deployment, arrays: int, rounds: int) -> list[float]:
    """Return the seconds of rounds in which three agents hand back the model they are sent.

    Args:
        made: A deployment that is up; its agents' keys are used, and they must not be online.
        arrays: Of how many arrays of 10 values the model is.
        rounds: How many rounds are played.
    """
    tools = Path(sys.executable).parent
    env = {
        **os.environ, **SWITCHES, "FLWR_HOME": str(made.flower),
        # The programs start each other by their bare names.
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, programs(made, tools, env, folder):
        app, out = Path(folder) / "noop", Path(folder) / "seconds.json"
        app.mkdir()
        (app / "noop.py").write_text(_APP)
        project = _PROJECT.format(rounds=rounds, arrays=arrays, out=json.dumps(str(out)))
        (app / "pyproject.toml").write_text(project)
        command = [str(tools / "flwr"), "run", str(app), "backfire"]
        told = subprocess.run(
            command, env=env, check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        if told.returncode or "Successfully" not in told.stdout:
            raise RuntimeError(f"Flower did not take its app: {told.stdout}{told.stderr}")
        seconds: list[float] = []
        end = time.monotonic() + PATIENCE + 30 * rounds
        while len(seconds) < rounds:
            if time.monotonic() > end:
                log = (Path(folder) / "log").read_text()[-2000:]
                raise RuntimeError(f"Flower's own game did not end: {log}")
            time.sleep(0.5)
            with contextlib.suppress(OSError, ValueError):
                seconds = json.loads(out.read_text())
    return seconds


@contextlib.contextmanager
def programs(made: Deployment, tools: Path, env: dict, folder: str) -> Iterator[None]:
    """Start Flower's own programs for the agents and the server; end all that they started."""
    agents = made.settings.agents
    secure = ["--root-certificates", str(made.ca)]
    commands = [["flower-superexec", "--runtime-api-address", made.control, *secure]]
    for name, port in zip(agents, free_ports(len(agents)), strict=True):
        key = ["--auth-supernode-private-key", str(made.kits / name / "key")]
        where = ["--superlink", made.fleet_here, "--host", "127.0.0.1", "--port", str(port)]
        commands.append(["flower-supernode", *where, *secure, *key])
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((Path(folder) / "log").open("w"))
        for command in commands:
            process = subprocess.Popen(
                [str(tools / command[0]), *command[1:]], env=env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            stack.callback(process.wait, PATIENCE)
            # It starts processes of its own, which end with its group.
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        yield


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
