"""Real processes on loopback for tests: a SuperLink, agents, a table; ended by their own ids."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from flwr.app import Message, RecordDict

from backfire.deployment import superlink
from backfire.deployment.operations import down, init, up
from backfire.deployment.play_mode import PlayMode
from backfire.playing import play
from backfire.runtimes.local import LocalGrid
from scenarios.loader import parse
from small_deployments import plan

ROOT = Path(__file__).parents[1]
FAULTY = Path(__file__).with_name("faulty_agent.py")
# Machines of tests are slow and shared: nothing here is told to be fast, only to come at all.
PATIENCE = 120.0

TINY = {
    "kind": "synthetic", "classes": 4, "channels": 1, "height": 6, "width": 6,
    "train_per_class": 24, "test_per_class": 6,
}  # fmt: skip


def game(rounds=3, **changes):
    """Return a federated game of three agents whose rounds take no time."""
    document = {
        "name": "live",
        "game": "federated",
        "data": TINY,
        "model": {"kind": "mlp", "hidden": [8]},
        "training": {"batch_size": 16, "epochs": 2},
        "federation": {"rounds": rounds, "quorum": 0.3},
        "defender_share": 0.25,
        "agents": [
            {"name": "alice", "behaviour": {"kind": "benign"}},
            {"name": "bob", "behaviour": {"kind": "benign"}},
            {
                "name": "mallory",
                "behaviour": {"kind": "label_flip", "poison_rate": 0.5},
            },
        ],
        "defenders": {"mean": []},
        "referee": {"alone": 0, "attacker_free": False},
        "compute": {"device": "cpu"},
        "deadline": 60,
        "joining": PATIENCE,
    }
    return parse(json.dumps(document | changes), "live")


def eventually(condition, seconds=PATIENCE, each=0.05):
    """Wait until a condition holds; return its value."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {condition}"
        time.sleep(each)
    return found


def hears_ctrl_c():
    """Undo what a shell does to jobs in its background, should the tests be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environment():
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }  # fmt: skip


class Running:
    """A process of a test and what it says.

    Args:
        command: Its command line, after the name of the Python.
        prefix: What the Python is started with.
    """

    def __init__(self, command, prefix=()):
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=environment(), cwd=ROOT, start_new_session=True,
            preexec_fn=hears_ctrl_c,
        )  # fmt: skip
        self.pid, self.lines = self.process.pid, []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout as told:
            for line in told:
                self.lines.append(line.rstrip("\n"))

    def count(self, pattern):
        return sum(bool(re.search(pattern, line)) for line in list(self.lines))

    def says(self, pattern, times=1, seconds=PATIENCE):
        """Wait until it has said something so many times."""
        until = time.monotonic() + seconds
        while self.count(pattern) < times:
            assert self.process.poll() is None or self.count(pattern) >= times, self.lines[-20:]
            assert time.monotonic() < until, f"{pattern} not within {seconds} s: {self.lines[-20:]}"
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        return self.wait()

    def when(self, pattern, action):
        """Do something as soon as it says something, while the test waits for something else."""
        thread = threading.Thread(target=lambda: (self.says(pattern), action()), daemon=True)
        thread.start()

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=PATIENCE):
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def end(self):
        """End it whatever it does; return its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                return self.wait(30)
            except subprocess.TimeoutExpired:
                return self.kill()
        return self.process.returncode


class Live:
    """A deployment on loopback, up, with the agents that were started.

    Args:
        folder: Where it is made.
        agents: Their names.
        changes: Fields of its plan.
    """

    def __init__(self, folder, agents=("alice", "bob", "mallory"), **changes):
        told = {"hosts": ["127.0.0.1"], "agents": agents, "play": PlayMode.SCENARIO}
        self.made = init(folder / "table", plan(**(told | changes)))
        self.folder, self.out = self.made.folder, folder / "runs"
        self.agents, self.others = {}, []
        self.up()

    def up(self):
        return up(self.folder, seconds=PATIENCE)

    def down(self):
        return down(self.folder)

    @property
    def link(self):
        """The SuperLink's process."""
        return superlink.running(self.made)

    def kill_link(self):
        """Kill the SuperLink; it was started by this process, which therefore buries it."""
        pid = self.link.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.link is None)
        return pid

    def start(self, *names, faults=()):
        """Start agents, as their owners do or with faults, and wait until they are connected."""
        for name in names:
            self.launch(name, faults=faults)
        for name in names:
            self.agents[name].says("is connected to")

    def launch(self, name, faults=(), prefix=()):
        kit = self.made.kits / name
        command = [FAULTY, kit, *faults] if faults else ["-m", "backfire", "agent", "start", kit]
        self.agents[name] = self.follow(Running(command, prefix))
        return self.agents[name]

    def follow(self, process):
        self.others.append(process)
        return process

    def play(self, scenario, progress=lambda event: None):
        """Play a game in this process."""
        return play(
            scenario, runtime="grpc", connection=self.folder, out=self.out, progress=progress
        )

    def table(self, command):
        """Start the table as a process: a command line of `backfire`."""
        return self.follow(Running(["-m", "backfire", *command]))

    def close(self):
        for process in reversed(self.others):
            process.end()
        self.down()


def missed(played, defender="mean"):
    """Return the rounds in which each agent's update was not admitted."""
    found = {}
    for entry in played.result.rounds[defender]:
        for name in set(entry.sampled) - set(entry.admitted):
            found.setdefault(name, set()).add(entry.round)
    return found


def weights(played):
    return (played.folder / "model.safetensors").read_bytes()


def codes(played):
    return {(q.agent, q.code) for q in played.result.quarantined}


def said(played):
    return {q.agent: q.message for q in played.result.quarantined}


class Without(LocalGrid):
    """A grid on which agents miss rounds."""

    def __init__(self, grid, missed):
        self.__dict__.update(grid.__dict__)
        self._cohort, self._missed = None, missed

    def _answer(self, message):
        reply = super()._answer(message)
        told = message.content.config_records["ask"]
        if message.metadata.message_type != "train.update":
            return reply
        gone = told["round"] in self._missed.get(self._nodes[message.metadata.dst_node_id], ())
        return Message(RecordDict(), reply_to=message) if gone else reply


def replayed(scenario, absent, tmp_path):
    """Return the model of the same game on the local runtime without some agents' rounds."""
    return weights(play(scenario, out=tmp_path, wrap=lambda grid: Without(grid, absent)))
