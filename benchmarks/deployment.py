"""Real machines, all on this one: what a round, a contribution and a recovery take over gRPC.

A SuperLink with TLS and node authentication, three agents that learn nothing, and the table. Beside
it Flower's own way, on the same SuperLink with the same keys: `flower-supernode` for each agent,
which starts a process for each message, and `flower-superexec` for the server. Last a real game,
whose table is killed and whose run is gone on with.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from flwr.serverapp import Grid, ServerApp

from backfire.deployment.layout import Deployment
from backfire.deployment.operations import Plan, down, init, up
from backfire.deployment.play_mode import PlayMode
from backfire.deployment.superlink import running
from backfire.runtimes.grpc.server import Connection, run_grpc
from benchmarks._echo_agent import ROW
from benchmarks._flower_programs import free_ports, rounds_of_flower
from benchmarks._measure import MIB, alone, goal, peak
from learning.wire import RECORD, pack
from server.wire.admission import Wanted, collect
from server.wire.exchange import Ask, Exchange, seat_agents

AGENTS = ("anna", "ben", "cleo")
PATIENCE = 120.0
MOST = 2**30
_ROOT = Path(__file__).parents[1]
_GAME = """
name: resumed
game: federated
data: {kind: digits}
model: {kind: small_cnn}
federation: {rounds: 6}
agents:
  - {name: anna, behaviour: {kind: benign}}
  - {name: ben, behaviour: {kind: benign}}
  - {name: cleo, behaviour: {kind: benign}}
defenders: {mean: []}
referee: {alone: 0, attacker_free: false}
compute: {device: cpu}
deadline: 120
joining: 120
"""


def run(quick: bool) -> dict:
    """Measure rounds, contributions, recoveries."""
    rounds, megabytes, sizes = (3, 10, (1,)) if quick else (20, 50, (1, 120))
    rows, load = [], [os.getloadavg()[0]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    with deployment() as made:
        for arrays in sizes:
            with agents(made):
                rows.append(alone(rounds_of, made.folder, arrays, rounds if arrays == 1 else 5))
            rows.append(flowers(made, arrays, 2 if quick else 5))
        with agents(made):
            rows.append(alone(contributions, made.folder, megabytes))
        load.append(os.getloadavg()[0])
        rows += recoveries(made)
        rows.append(resumed(made))
    load.append(os.getloadavg()[0])
    ours, theirs = rows[0]["s a round"], rows[1]["s a round"]
    told = " and ".join(f"{value:.1f}" for value in load[1:])
    return {
        "name": "deployment: 3 agents over gRPC, TLS and keys, all on one machine",
        "rows": rows,
        "note": (
            f"{goal('an almost empty round in a tenth of the time of Flower', ours < theirs / 10)} "
            f"({theirs / ours:.0f} times as fast). Load of the machine before it began: "
            f"{load[0]:.1f}; after rounds and contributions, and at the end, our own included: "
            f"{told}. Seconds of rounds are medians; CPU s are the SuperLink's for a round. MiB "
            "are peaks of whole processes so far, imports of about 560 for a table included; a "
            "SuperLink that was killed begins anew. Recoveries are counted from the kill, the "
            "start of what was killed included: to the end of the first round in which all agents "
            "answer; for the table to the end of the first new round of a real game (digits), "
            "imports and data included."
        ),
    }


@contextlib.contextmanager
def deployment() -> Iterator[Deployment]:
    """Bring a SuperLink up on loopback."""
    with tempfile.TemporaryDirectory() as folder:
        port, fleet_port = free_ports(2)
        plan = Plan(["127.0.0.1"], AGENTS, port, fleet_port, "127.0.0.1", play=PlayMode.SCENARIO)
        made = init(Path(folder) / "table", plan)
        try:
            up(made.folder, PATIENCE)
            yield made
        finally:
            down(made.folder)


@contextlib.contextmanager
def agents(made: Deployment) -> Iterator[dict[str, subprocess.Popen]]:
    """Start the agents; end them again."""
    started = {name: agent(made, name) for name in AGENTS}
    try:
        yield started
    finally:
        end(started.values())


def agent(made: Deployment, name: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks._echo_agent", str(made.kits / name)]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL)


def end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(PATIENCE)


def at_table(folder: Path, play: Callable[[Exchange, Grid], None]) -> None:
    """Claim a run, wait for the agents, and play."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: object) -> None:
        nodes = seat_agents(grid, AGENTS, PATIENCE)
        assert len(nodes) == len(AGENTS)
        play(Exchange(grid, nodes, PATIENCE), grid)

    run_grpc(app, Connection.read(folder), {"scenario": "", "table": ""}, MOST)


def round_of(exchange: Exchange, number: int, arrays: int) -> float:
    """Play a round with a model of so many arrays; return its seconds."""
    model = {f"w{k}": np.full(10, number + k, np.float32) for k in range(arrays)}
    record, good = pack(model).array_records[RECORD], []

    def refuse(ask: Ask, refusal: Exception) -> None:
        raise refusal

    began = time.perf_counter()
    asks = [Ask(name, "update", {"round": number}, "train", record) for name in AGENTS]
    exchange.ask(asks, lambda ask, _: good.append(ask.agent), refuse)
    assert sorted(good) == sorted(AGENTS)
    return time.perf_counter() - began


def rounds_of(folder: Path, arrays: int, rounds: int) -> dict:
    """Measure rounds."""
    made = Deployment.read(folder)
    seconds: list[float] = []
    spent = [0.0]

    def play(exchange: Exchange, grid: Grid) -> None:
        for number in range(2):
            round_of(exchange, number, arrays)
        before = cpu(made)
        seconds.extend(round_of(exchange, number, arrays) for number in range(2, rounds + 2))
        spent[0] = (cpu(made) - before) / rounds

    at_table(folder, play)
    return {
        "what": _round(arrays),
        "by": "ours",
        "s a round": median(seconds),
        "slowest s": max(seconds),
        "CPU s": spent[0],
        "table MiB": peak(),
        "SuperLink MiB": high_water(running(made).pid),
    }


def flowers(made: Deployment, arrays: int, rounds: int) -> dict:
    """Measure rounds the way Flower runs them; the first, in which it starts, is left out."""
    seconds = rounds_of_flower(made, arrays, rounds)[1:]
    return {
        "what": _round(arrays),
        "by": "flower-supernode, flower-superexec",
        "s a round": median(seconds),
        "slowest s": max(seconds),
    }


def _round(arrays: int) -> str:
    return f"a round with a model of {arrays} array{'s' * (arrays > 1)} of 10 values"


def contributions(folder: Path, megabytes: int) -> dict:
    """Measure how rows of all agents are collected."""
    made = Deployment.read(folder)
    rows = megabytes * 10**6 // (4 * int(np.prod(ROW)))
    wanted = [Wanted(name, "contribute", rows, (("x", "float32", ROW),)) for name in AGENTS]
    seconds = [0.0]

    def play(exchange: Exchange, grid: Grid) -> None:
        began = time.perf_counter()
        got, refused = collect(exchange, wanted, lambda _: lambda _: None, lambda *_: None)
        seconds[0] = time.perf_counter() - began
        assert not refused
        assert all(got[name]["x"].shape == (rows, *ROW) for name in AGENTS)

    at_table(folder, play)
    return {
        "what": f"{len(AGENTS)} x {megabytes} MB contributed",
        "by": "ours",
        "s in all": seconds[0],
        "MB a s": len(AGENTS) * megabytes / seconds[0],
        "table MiB": peak(),
        "SuperLink MiB": high_water(running(made).pid),
    }


def recoveries(made: Deployment) -> list[dict]:
    """Measure how long it takes until everybody answers again after a kill."""
    found = []
    with agents(made) as started:

        def again(name: str) -> None:
            started[name].kill()
            started[name].wait()
            started[name] = agent(made, name)

        def link() -> None:
            os.kill(running(made).pid, signal.SIGKILL)
            while running(made) is not None:
                time.sleep(0.01)
            up(made.folder, PATIENCE)

        def play(exchange: Exchange, grid: Grid) -> None:
            round_of(exchange, 0, 1)
            strikes = {"an agent": lambda: again("cleo"), "the SuperLink": link}
            for number, (what, strike) in enumerate(strikes.items(), 1):
                began = time.perf_counter()
                strike()
                round_of(exchange, number, 1)
                row = {"what": f"{what} killed -9 and started again", "by": "ours"}
                found.append(row | {"s in all": time.perf_counter() - began})

        at_table(made.folder, play)
    return found


def resumed(made: Deployment) -> dict:
    """Measure how long it takes until a killed table has played its next round."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = Path(folder)
        (root / "game.yaml").write_text(_GAME)
        for name in AGENTS:
            process = backfire("agent", "start", str(made.kits / name))
            stack.callback(end, [process])
        where = ["--connection", str(made.folder), "--plain"]
        begin = ["run", str(root / "game.yaml"), "--runtime", "grpc", "--out", str(root / "runs")]
        table = backfire(*begin, *where)
        stack.callback(table.kill)
        until(lambda: len(lines(root)) >= 3, table)
        table.kill()
        table.wait()
        began, before = time.perf_counter(), len(lines(root))
        (run_folder,) = (root / "runs").iterdir()
        table = backfire("resume", str(run_folder), *where)
        stack.callback(table.kill)
        until(lambda: any(played(line) for line in lines(root)[before:]), table)
        seconds, taken = time.perf_counter() - began, high_water(table.pid)
        assert table.wait(PATIENCE) == 0, "the game did not end"
    return {
        "what": "the table killed -9 in a game, and `backfire resume`",
        "by": "ours",
        "s in all": seconds,
        "table MiB": taken,
        "SuperLink MiB": high_water(running(made).pid),
    }


def backfire(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "backfire", *arguments]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL)


def lines(root: Path) -> list[str]:
    """Return the lines of the only run's log that are written out."""
    logs = list((root / "runs").glob("*/rounds.jsonl"))
    return logs[0].read_text().splitlines() if logs else []


def played(line: str) -> bool:
    return json.loads(line).get("phase") == "round"


def until(true: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for something that a process brings about."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, "the table ended too early"
        assert time.monotonic() < end, "the table played no round"
        time.sleep(0.02)


def cpu(made: Deployment) -> float:
    """Return the CPU seconds that the SuperLink has taken."""
    stat = Path(f"/proc/{running(made).pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(value) for value in stat[11:13]) / os.sysconf("SC_CLK_TCK")


def high_water(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MIB
