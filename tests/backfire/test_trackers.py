"""TensorBoard, W&B and MLflow are told of a game and of a sweep's cells, all of them offline."""

import importlib.util
import json
import shutil
import socket
import sqlite3
import struct

import pytest
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.evidence.long_table import read_rows
from backfire.evidence.rows import ScoreRow
from backfire.playing import PlayError, play
from backfire.sweeps.playing import Step
from backfire.sweeps.tracking import track_sweep
from backfire.trackers import need_trackers, tracking
from backfire.trackers.telling import Tracking, flattened
from scenarios.sweep.spec import Cell
from server.events import Event
from small_games import ROOT, small

LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing set by the user, and no connection to anywhere else from this process."""
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            raise AssertionError(f"a connection to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def federated(**changes):
    path = ROOT / "scenarios" / "federated" / "quickstart.yaml"
    scenario = small(path, **changes)
    mean = next(iter(scenario.resolved()["defenders"]))
    return small(path, **changes, defenders={mean: scenario.resolved()["defenders"][mean]})


def told_to_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(one.step, one.value) for one in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def told_to_mlflow(file, run):
    with sqlite3.connect(file) as database:
        lines = database.execute(
            "select key, step, value from metrics join runs using (run_uuid) "
            "where name = ? order by step",
            (run,),
        )
        found = {}
        for name, step, value in lines:
            found.setdefault(name, []).append((step, value))
    return found


def told_to_wandb(folder):
    """Read an offline run: LevelDB's log format after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    data, at, record, lines = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            parsed = Record.FromString(record)
            record = b""
            if parsed.WhichOneof("record_type") == "history":
                lines.append(
                    {
                        item.key or "/".join(item.nested_key): json.loads(item.value_json)
                        for item in parsed.history.item
                    }
                )
    return lines


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """One small federated game that all trackers which are installed were told of."""
    names = [name for name in ("tensorboard", "wandb", "mlflow") if importlib.util.find_spec(name)]
    scenario = federated()
    return scenario, play(scenario, out=tmp_path_factory.mktemp("tracked"), track=names)


def check(found, scenario, result):
    """Compare what a tracker was told, by name and step, with the game's own result."""
    (defender,) = result.defenders
    scores = result.defenders[defender]
    assert found[f"score/{defender}/clean_accuracy"] == [
        (0, pytest.approx(scores.clean_accuracy.value, rel=1e-6))
    ]
    name = f"score/{defender}/malicious/asr"
    assert found[name] == [(0, pytest.approx(scores.malicious.asr.mean, rel=1e-6))]
    rounds = result.rounds[defender]
    assert found[f"round/{defender}/admitted"] == [(r.round, len(r.admitted)) for r in rounds]
    assert found[f"round/{defender}/clean_accuracy"] == [
        (r.round, pytest.approx(r.clean_accuracy.value, rel=1e-6))
        for r in rounds
        if r.clean_accuracy is not None
    ]
    assert len(rounds) == scenario.federation.rounds


def test_tensorboard_is_told_of_rounds_and_scores(tracked):
    pytest.importorskip("tensorboard")
    scenario, played = tracked
    check(told_to_tensorboard(played.folder / "tracking/tensorboard"), scenario, played.result)


def test_mlflow_is_told_of_rounds_and_scores(tracked):
    pytest.importorskip("mlflow")
    scenario, played = tracked
    file = played.folder / "tracking/mlflow/mlflow.db"
    check(told_to_mlflow(file, f"{scenario.name}-seed0"), scenario, played.result)
    with sqlite3.connect(file) as database:
        params = dict(database.execute("select key, value from params"))
        status = database.execute("select status from runs").fetchall()
    assert params["federation.rounds"] == "2"
    assert params["digest"] == scenario.digest()
    assert status == [("FINISHED",)]


def test_wandb_is_told_of_rounds_and_scores(tracked):
    pytest.importorskip("wandb")
    scenario, played = tracked
    found = {}
    for line in told_to_wandb(played.folder / "tracking/wandb"):
        for name, value in line.items():
            found.setdefault(name, []).append((line["step"], value))
    check(found, scenario, played.result)


def test_a_tracked_game_is_the_same_game(tracked, tmp_path):
    scenario, played = tracked
    alone = play(scenario, out=tmp_path)
    for name in ("model.safetensors", "agents.parquet", "scenario.yaml"):
        assert (alone.folder / name).read_bytes() == (played.folder / name).read_bytes()
    assert alone.result.model_copy(update={"seconds": {}}) == played.result.model_copy(
        update={"seconds": {}}
    )
    assert not (alone.folder / "tracking").exists()


def row(**changes):
    blank = ScoreRow({}, 0, "cell", "cutmix", "malicious", "", "asr", 0.25)
    return ScoreRow(**{**vars(blank), **changes})


def test_cells_of_a_sweep_are_runs_of_their_own(tracked, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    # A database of the user's own, which has runs already.
    file = tmp_path / "mine.db"
    shutil.copy(tracked[1].folder / "tracking/mlflow/mlflow.db", file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    with tracking(["tensorboard", "mlflow"], tmp_path, "s1-table3") as opened:
        opened.cell("a", {"N": 1}, 0, [row(), row(agent="mallory-0", value=0.9)])
        opened.cell("b", {"N": 5}, 3, [row(value=0.75), row(score="asr_all", value=None)])
    name = "score/cutmix/malicious/asr"
    assert told_to_tensorboard(tmp_path / "tracking/tensorboard/b") == {name: [(1, 0.75)]}
    assert told_to_mlflow(file, "a") == {name: [(0, 0.25)]}
    with sqlite3.connect(file) as database:
        params = database.execute(
            "select key, params.value from params join runs using (run_uuid) where name = 'b'"
        )
        assert dict(params) == {"N": "5", "seed": "3"}
        parents = database.execute(
            "select child.name from runs parent join tags on tags.value = parent.run_uuid "
            "join runs child on child.run_uuid = tags.run_uuid "
            "where parent.name = 's1-table3' and tags.key = 'mlflow.parentRunId'"
        )
        assert sorted(parents) == [("a",), ("b",)]


class Recorder:
    def __init__(self, broken=False):
        self.broken, self.numbers_told, self.cells, self.closed = broken, [], [], []

    def settings(self, values):
        pass

    def numbers(self, values, step):
        if self.broken:
            raise ConnectionError("the server\nis away")
        self.numbers_told.append((dict(values), step))

    def cell(self, name, at, values, step):
        self.cells.append((name, at, values, step))

    def close(self, *, finished):
        self.closed.append(finished)


def round_event(number, accuracy):
    score = None if accuracy is None else {"value": accuracy}
    facts = {"defender": "mean", "admitted": ["a", "b"], "skipped": False, "clean_accuracy": score}
    return Event("round", number, 5, facts=facts)


def test_a_tracker_that_fails_is_left_out_and_the_game_goes_on():
    good, bad, seen = Recorder(), Recorder(broken=True), []
    told = Tracking({"bad": bad, "good": good}, seen.append)
    told(round_event(1, 0.5))
    told(round_event(2, None))
    told(Event("scoring", 1, 1))
    told.close(finished=True)
    notes = [event.note for event in seen if event.phase == "tracking"]
    assert notes == ["bad failed and is told no more: the server is away"]
    name = "round/mean"
    assert good.numbers_told == [
        ({f"{name}/skipped": 0.0, f"{name}/admitted": 2.0, f"{name}/clean_accuracy": 0.5}, 1),
        ({f"{name}/skipped": 0.0, f"{name}/admitted": 2.0}, 2),
    ]
    assert (good.closed, bad.closed) == ([True], [])
    assert [event.phase for event in seen] == ["round", "tracking", "round", "scoring"]


def tracking_notes(seen):
    return [event.note for event in seen if event.phase == "tracking"]


def test_values_that_are_not_finite_are_counted_and_told_once():
    """Case nan-metric: a diverged curve does not just end."""
    recorder, seen = Recorder(), []
    told = Tracking({"good": recorder}, seen.append)
    for number, value in enumerate((0.5, float("nan"), float("inf")), 1):
        told(round_event(number, value))
    row = ScoreRow(
        at={},
        seed=0,
        cell="c",
        defender="mean",
        group="",
        agent="",
        score="asr",
        value=float("nan"),
    )
    told.cell("c", {}, 0, [row])
    assert tracking_notes(seen) == []
    told.close(finished=True)
    told.close(finished=True)
    assert tracking_notes(seen) == [
        "3 values that are not finite (NaN or infinite) left out of what trackers are told: "
        "round/mean/clean_accuracy (2), score/mean/asr (1)"
    ]
    assert recorder.cells[0][2] == {}
    shown = [values for values, _ in recorder.numbers_told]
    assert [("round/mean/clean_accuracy" in values) for values in shown] == [True, False, False]


def test_without_a_tracker_or_without_such_values_nothing_is_told():
    for trackers, value in (({}, float("nan")), ({"good": Recorder()}, 0.5)):
        seen = []
        told = Tracking(trackers, seen.append)
        told(round_event(1, value))
        told.close(finished=True)
        assert tracking_notes(seen) == []


def test_a_game_that_is_cut_off_closes_its_trackers(tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(
        "backfire.trackers.telling.open_tracker", lambda name, folder, title: recorder
    )
    with pytest.raises(KeyboardInterrupt), tracking(["mlflow"], tmp_path, "x"):
        raise KeyboardInterrupt
    assert recorder.closed == [False]


def test_a_tracker_that_cannot_be_opened_is_told_of(tmp_path, monkeypatch):
    def refuse(name, folder, title):
        raise OSError("no room")

    monkeypatch.setattr("backfire.trackers.telling.open_tracker", refuse)
    seen = []
    with tracking(["mlflow"], tmp_path, "x", seen.append):
        pass
    assert [event.note for event in seen] == ["mlflow cannot be used: no room"]


def test_a_sweep_tells_of_each_cell_that_was_played(tracked, tmp_path, monkeypatch):
    scenario, played = tracked
    recorder, steps = Recorder(), []
    monkeypatch.setattr(
        "backfire.trackers.telling.open_tracker", lambda name, folder, title: recorder
    )
    cells = tmp_path / "cells"
    cells.mkdir()
    (cells / played.folder.name).symlink_to(played.folder)
    cell = Cell({"N": 2}, 0, scenario, scenario.digest())
    with track_sweep(["mlflow"], "s1", steps.append) as watch:
        watch(Step(0, 2, [cell], folder=tmp_path))
        watch(Step(1, 2, [], last=cell, error="it diverged", folder=tmp_path))
        watch(Step(2, 2, [], last=cell, folder=tmp_path))
    assert len(steps) == 3
    ((name, at, values, step),) = recorder.cells
    assert (name, at, step) == (played.folder.name, {"N": 2, "seed": 0}, 0)
    (defender,) = played.result.defenders
    expected = played.result.defenders[defender].malicious.asr.mean
    assert values[f"score/{defender}/malicious/asr"] == expected
    assert recorder.closed == [True]
    assert not any("agent" in one or "mallory-" in one for one in values)


SWEEP = """
name: tracked
data: {kind: synthetic, classes: 4, channels: 1, height: 8, width: 8,
       train_per_class: 24, test_per_class: 6}
agents:
  - name: mallory
    behaviour:
      kind: backdoor
      poison_rate: 0.5
      trigger: {kind: random_badnet, epsilon: 0.3}
      target: {kind: fixed, label: 1}
defenders: {undefended: []}
model: {kind: softmax}
training: {epochs: 1, batch_size: 16}
referee: {alone: 0, cross_asr: false}
sweep: {seeds: 1, axes: {attackers: {field: agents.mallory.count, values: [1, 2]}}}
"""


@pytest.mark.slow
def test_a_sweep_is_tracked_from_the_command_line(tmp_path):
    pytest.importorskip("tensorboard")
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    arguments = ["sweep", str(file), "--out", str(tmp_path), "--jobs", "1", "--plain"]
    found = CliRunner().invoke(app, [*arguments, "--track", "tensorboard"])
    assert found.exit_code == 0, found.output
    (folder,) = (path.parent for path in tmp_path.glob("*/scores.parquet"))
    cells = sorted(
        path.name for path in (folder / "tracking/tensorboard").iterdir() if path.is_dir()
    )
    assert cells == sorted(path.name for path in (folder / "cells").iterdir())
    values = {
        row.cell: row.value
        for row in read_rows(folder)
        if (row.group, row.agent, row.score) == ("malicious", "", "asr")
    }
    for cell in cells:
        told = told_to_tensorboard(folder / "tracking/tensorboard" / cell)
        ((_, value),) = told["score/undefended/malicious/asr"]
        assert value == pytest.approx(values[cell], rel=1e-6)


def test_without_trackers_nothing_is_opened(tmp_path):
    with track_sweep([], "s1", lambda step: None) as watch:
        watch(Step(0, 1, [], folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else find(name)
    )
    with pytest.raises(PlayError, match=r"--track wandb needs wandb: .*'backfire\[wandb\]'"):
        play(federated(), out=tmp_path / "runs", track=["wandb"])
    assert not (tmp_path / "runs").exists()
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    for command in (["run", "quickstart"], ["sweep", str(tmp_path / "sweep.yaml")]):
        found = CliRunner().invoke(
            app, [*command, "--track", "wandb", "--out", str(tmp_path / "x")]
        )
        assert found.exit_code == 3
        assert found.output.startswith("error: --track wandb needs wandb: install it with")
        assert found.output.count("\n") == 1


def test_an_unknown_tracker_is_one_line():
    with pytest.raises(ValueError, match="expected a tracker of tensorboard, wandb, mlflow"):
        need_trackers(["tensorbored"])
    found = CliRunner().invoke(app, ["run", "quickstart", "--track", "tensorbored"])
    assert found.exit_code == 2


def test_settings_are_told_by_path():
    nested = {"a": {"b": [1, {"c": "x"}]}, "none": None, "flag": True}
    assert flattened(nested) == {"a.b.0": 1, "a.b.1.c": "x", "flag": True}
