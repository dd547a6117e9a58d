"""Cells are spread over devices in turn; where they are played changes no hash."""

import json
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest
from sweep_fixture import sweep
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.playing import PlayError
from backfire.sweeps import playing
from backfire.sweeps.devices import DeviceTurns, devices_of, on_device
from backfire.sweeps.folder import SweepFolder
from backfire.sweeps.playing import _crew, _ScoreTable
from backfire.sweeps.workers import Done
from learning.training import device
from scenarios.loader import parse

TWO = ("cuda:0", "cuda:1")


def test_devices_take_turns_and_the_least_busy_comes_first():
    turns = DeviceTurns(("a", "b", "c"))
    assert [turns.take() for _ in range(4)] == ["a", "b", "c", "a"]
    turns.free("c")
    assert turns.take() == "c"
    turns.free("a")
    turns.free("a")
    assert [turns.take(), turns.take()] == ["a", "b"]
    assert DeviceTurns().take() is None
    DeviceTurns().free(None)


def test_a_device_changes_where_a_cell_is_played_and_not_which_game_it_is():
    scenario = sweep().cells[0].scenario
    moved = parse(json.dumps(on_device(scenario.resolved(), "cuda:1")), "cell")
    assert moved.compute.device == "cuda:1"
    assert moved.digest() == scenario.digest()
    assert on_device(scenario.resolved(), None) == scenario.resolved()


class FakeCrew:
    """Notes where each cell goes; cells end one after the other, the first dies once."""

    def __init__(self, size, seen):
        self.size, self._seen = size, seen

    def submit(self, task):
        future = Future()
        chosen = json.loads(task.text)["compute"]["device"]
        self._seen.append(chosen)
        dies = len(self._seen) == 1
        wrong = BrokenProcessPool("dead") if dies else None
        end = (lambda: future.set_exception(wrong)) if dies else (
            lambda: future.set_result(Done(0.1, "not played"))
        )  # fmt: skip
        threading.Timer(0.01 * len(self._seen), end).start()
        return future

    def close(self, *, kill):
        pass


def test_a_sweep_gives_its_cells_to_all_devices_alike(tmp_path):
    chosen, seen = sweep(seeds=1), []
    folder = SweepFolder.take(tmp_path, chosen)
    turns = DeviceTurns(TWO)
    table = _ScoreTable(folder, deque(chosen.cells), 8, lambda step: None, turns)
    table.play(lambda: FakeCrew(2, seen))
    folder.close()
    assert set(seen[:2]) == set(TWO)
    assert len(seen) == 9  # one of eight is given out twice
    assert min(seen.count(name) for name in TWO) >= 3
    assert turns.take() != turns.take()  # all were given back


def test_as_many_cells_play_at_a_time_as_there_are_gpus(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    made = []
    monkeypatch.setattr(playing, "ProcessCrew", lambda *size: made.append(size))
    monkeypatch.setattr(playing, "usable_cores", lambda: 8)
    cells = sweep().cells
    _crew("local", None, cells, TWO)
    _crew("local", 6, cells, TWO)
    _crew("local", None, cells, ("cpu",))
    assert made == [(2, 4), (6, 1), (8, 1)]
    with pytest.raises(PlayError, match="cuda:7"):
        _crew("local", None, cells, ("cuda:7",))


def test_devices_are_named_once_are_there_and_of_one_kind(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    assert devices_of("cuda:0, cuda:1") == TWO
    assert devices_of("all") == TWO
    assert devices_of("cpu") == ("cpu",)
    for text, message in (
        ("cuda:0,cuda:0", "each device once"),
        ("cuda:0,", "each device once"),
        ("cuda,cuda:0", "one under two names"),
        ("cuda:5", "got 'cuda:5'"),
        ("cpu,cuda:0", "of one kind"),
    ):
        with pytest.raises(ValueError, match=message):
            devices_of(text)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="this machine has none"):
        devices_of("all")


@pytest.mark.parametrize("command", [("sweep",), ("reproduce", "--small")])
def test_what_is_wrong_with_a_device_is_one_line(command, tmp_path):
    name = "s1-table3" if command[0] == "reproduce" else "papers/s1/table3_small"
    for options in (
        ("--device", "cpu", "--devices", "cpu"),
        ("--devices", "cuda:0,cpu,gpu"),
        ("--device", "tpu"),
    ):
        told = CliRunner().invoke(app, [*command, name, *options, "--out", str(tmp_path)])
        assert told.exit_code == 2, told.output
        assert told.output.count("\n") == 1
        assert "device" in told.output
    assert not list(tmp_path.iterdir())
