"""A long game on machines that fail: a hundred rounds, agents killed and started again at random.

T55 of the catalogue, shortened from 500 rounds of 10 processes to what ten minutes allow.
"""

import random
import signal
import sqlite3
import threading
from contextlib import closing

import psutil
import pytest

from live_deployments import Live, game, missed, replayed, weights

ROUNDS = 100
KILLS = 8
# From this round on nothing may grow but by noise: MiB of a process, its open files, MiB on disk.
WARM = 30
MIB, FILES, DISK = 32.0, 3, 8.0


class Meter:
    """What the processes and the database take, each few rounds."""

    def __init__(self, live):
        self._live, self.taken = live, {}

    def __call__(self, number):
        taken = {}
        processes = {"table": psutil.Process().pid, "link": self._live.link.pid}
        processes |= {f"{name} {a.pid}": a.pid for name, a in self._live.agents.items()}
        for name, pid in processes.items():
            try:
                process = psutil.Process(pid)
                taken[name] = process.memory_info().rss / 2**20, process.num_fds()
            except psutil.Error:  # it was killed a moment ago
                continue
        files = self._live.made.state.glob("state.db*")
        self.taken[number] = taken, sum(file.stat().st_size for file in files) / 2**20

    def growth(self):
        """Return by how much what lives from WARM on has grown: least at the end, most before.

        A leak grows all the time; connections and caches come and go.
        """
        numbers = sorted(number for number in self.taken if number >= WARM)
        early, late = numbers[:3], numbers[-3:]
        names = set.intersection(*(set(self.taken[number][0]) for number in early + late))
        grown = {
            name: tuple(
                min(self.taken[n][0][name][k] for n in late)
                - max(self.taken[n][0][name][k] for n in early)
                for k in (0, 1)
            )
            for name in names
        }
        disk = min(self.taken[n][1] for n in late) - max(self.taken[n][1] for n in early)
        return grown, disk


@pytest.fixture
def live(tmp_path):
    live = Live(tmp_path)
    live.start("alice", "bob", "mallory")
    yield live
    live.close()


@pytest.mark.deploy
def test_t55_a_hundred_rounds_with_random_kills_leave_nothing_behind(live, tmp_path):
    draw = random.Random(55)  # noqa: S311
    strikes = {
        n: draw.choice(["bob", "mallory"]) for n in draw.sample(range(3, ROUNDS - 10), KILLS)
    }
    meter, codes = Meter(live), []

    def strike(name):
        agent = live.agents[name]
        agent.signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        codes.append(agent.wait())
        live.launch(name)

    def progress(event):
        if event.phase != "round":
            return
        if event.done % 10 == 0:
            meter(event.done)
        if event.done in strikes:
            threading.Timer(draw.uniform(0, 0.5), strike, [strikes[event.done]]).start()

    scenario = game(ROUNDS, deadline=4.0)
    played = live.play(scenario, progress)
    absent = missed(played)
    assert len(codes) == KILLS
    # One that is struck again while it still loads ends by the signal itself.
    assert {-signal.SIGKILL, 0} <= set(codes) <= {-signal.SIGKILL, 0, -signal.SIGTERM}
    assert "alice" not in absent
    assert 0 < sum(map(len, absent.values())) < ROUNDS
    assert weights(played) == replayed(scenario, absent, tmp_path)

    grown, disk = meter.growth()
    print({"grown": grown, "disk": disk, "missed": {k: len(v) for k, v in absent.items()}})
    assert {"table", "link"} < set(grown)
    for name, (mib, files) in grown.items():
        assert mib < MIB, (name, meter.taken)
        assert files <= FILES, (name, meter.taken)
    assert disk < DISK, meter.taken
    assert left(live) == {}
    mine = {live.link.pid, *(agent.pid for agent in live.agents.values())}
    assert {p.pid for p in psutil.Process().children(recursive=True)} == mine


def left(live):
    """Return what the database still holds of the game, by table."""
    tables = ("message_ins", "message_res", "objects", "object_children")
    with closing(sqlite3.connect(live.made.state / "state.db")) as database:
        known = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        assert {"message_ins", "message_res", "objects"} <= known
        counts = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in tables
            if table in known
        }
    return {table: count for table, count in counts.items() if count}
