"""docs/deployment.md, word for word on loopback: from nothing to played games."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main

from backfire.cli.main import app
from small_deployments import AGENTS, free_ports

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("deployment.md", "threat-model.md")]
PAGE = PAGES[0].read_text()
BLOCKS = dict(re.findall(r"^```(?:sh|yaml) (\S+)\n(.*?)^```$", PAGE, re.M | re.S))


def commands():
    """Yield every command of ours in a block or a table of the pages."""
    for page in PAGES:
        text = page.read_text().replace("\n", " \n")
        blocks = re.findall(r"^(?:ExecStart=)?(backfire .*?) *$", text, re.M)
        inline = re.findall(r"`(?:ExecStart=|FLWR_LOG_LEVEL=INFO )?(backfire [^`]+)`", text)
        yield from (" ".join(line.split()) for line in [*blocks, *inline])


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_of_the_pages_exists(line):
    command, name, rest = typer.main.get_command(app), "backfire", shlex.split(line)[1:]
    while hasattr(command, "commands") and rest:
        name = rest.pop(0)
        command = command.commands[name]
    if rest:
        command.make_context(name, rest)


def test_the_pages_name_files_and_ports_that_are():
    from backfire.deployment.layout import CONTROL_HOST, Settings

    settings = Settings(host="x", agents=("a",))
    assert f"| {settings.fleet_port} `fleet_port`" in PAGE
    assert f"| {settings.port} `port`" in PAGE
    assert f"| {CONTROL_HOST} |" in PAGE
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), link


class Machine:
    """A shell in a folder of its own, where `backfire` and `python` are ours."""

    def __init__(self, folder, swap):
        self.folder, self._swap, self.started = folder, swap, []
        folder.mkdir()
        tools = folder / "bin"
        tools.mkdir()
        for name, line in (
            ("backfire", f"{sys.executable} -m backfire"),
            ("python", sys.executable),
        ):
            (tools / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
            (tools / name).chmod(0o755)
        self._env = {
            **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def _text(self, block):
        text = BLOCKS[block]
        for old, new in self._swap:
            text = re.sub(old, new, text)
        return text

    def run(self, block):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._text(block)],
            cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=400,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, block):
        """Run a block whose last command stays, as that very process."""
        *before, last = self._text(block).strip().splitlines()
        text = "\n".join([*before, f"exec {last}"])
        self.started.append(
            subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL,
                stdout=(self.folder / "log").open("a"), stderr=subprocess.STDOUT,
            )
        )  # fmt: skip

    def stop(self):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.started.clear()


@pytest.mark.deploy
def test_from_nothing_to_played_games(tmp_path):
    port, fleet = free_ports()
    ports = f"--port {port} --fleet-port {fleet} --fleet-host 127.0.0.1"
    host = (r"table\.example\.org", "localhost")
    server = Machine(tmp_path / "server", [(r"(--host \S+)", rf"\1 {ports}"), host])
    owners = {
        name: Machine(tmp_path / name, [host, (":9443", f":{fleet}"), (r"\balice\b", name)])
        for name in AGENTS
    }
    try:
        server.run("operator-init")
        server.run("operator-up")
        for name, machine in owners.items():
            kit = server.folder / "table" / "kits" / f"{name}.zip"
            kit.rename(machine.folder / kit.name)
            machine.start("owner-start")
        online(server, owners)
        server.run("operator-play")
        (result,) = (server.folder / "runs").glob("rehearsal-*/result.json")
        told = json.loads(result.read_text())
        assert [(agent["name"], agent["admitted"]) for agent in told["roster"]] == [
            (name, True) for name in AGENTS
        ]
        games = {name.split(":")[0] for name in told["defenders"]}
        assert games == {"pooled", "federated"}
        page = result.with_name("report.html").read_text()
        assert all(name in page for name in (*AGENTS, "undefended", "filtered", "median"))
        assert page.rstrip().endswith("</html>")

        for machine in owners.values():
            machine.stop()
            machine.run("owner-data")
            machine.start("owner-again")
        online(server, owners)
        (server.folder / "private.yaml").write_text(BLOCKS["private.yaml"])
        server.run("operator-private")
        (result,) = (server.folder / "runs").glob("with-private-data-*/result.json")
        told = json.loads(result.read_text())
        assert all(agent["admitted"] for agent in told["roster"])
        for machine in owners.values():
            machine.stop()
        assert "stopped" in server.run("operator-down")
    finally:
        for machine in owners.values():
            machine.stop()
        subprocess.run(
            [sys.executable, "-m", "backfire", "deploy", "down", server.folder / "table"],
            cwd=ROOT, check=False, capture_output=True,
        )  # fmt: skip


def online(server, owners):
    """Wait until all agents are connected in this very life of theirs."""
    until = time.monotonic() + 120
    while not all("is connected" in (m.folder / "log").read_text() for m in owners.values()):
        logs = {name: (m.folder / "log").read_text() for name, m in owners.items()}
        assert time.monotonic() < until, logs
        assert all(each.poll() is None for m in owners.values() for each in m.started), logs
        time.sleep(0.2)
    for machine in owners.values():
        (machine.folder / "log").write_text("")
