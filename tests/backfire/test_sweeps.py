"""Sweeps are played whole, by several processes, and gone on with to the same bytes (T56)."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from rich.console import Console
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.evidence.long_table import write_rows
from backfire.sweeps import ScoreRow, play_sweep, read_rows
from backfire.sweeps.cells import Player, folder_of
from backfire.sweeps.folder import SweepFolder
from backfire.sweeps.playing import Step, _ScoreTable
from backfire.sweeps.progress import watched
from backfire.sweeps.workers import Done
from scenarios.loader import parse, parse_sweep
from server.referee.results import GameResult
from server.store.atomic import yaml_bytes
from server.store.run_folder import RunFolder, RunFolderError
from small_games import ROOT

SWEEP = """\
name: little
data: {kind: synthetic, classes: 3, channels: 1, height: 6, width: 6, train_per_class: 30,
  test_per_class: 8}
model: {kind: softmax}
training: {epochs: 2, batch_size: 16}
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - name: mallory
    count: 2
    behaviour:
      kind: backdoor
      trigger: {kind: random_badnet, epsilon: 0.2}
      target: 1
      poison_rate: 0.5
defenders:
  undefended: []
  filtered: [{kind: loss_defence, share: 0.2}]
sweep:
  seeds: 2
  axes:
    rate: {field: agents.mallory.behaviour.poison_rate, values: [0.2, 1]}
    trigger:
      choices:
        fixed: {}
        redrawn: {agents.mallory.behaviour.trigger.draw: per_row}
"""
KEPT = ("scores.csv", "scores.parquet", "sweep.yaml")


def swept(*overrides):
    return parse_sweep(SWEEP, "s", overrides)


def files(folder):
    return {name: (folder / name).read_bytes() for name in KEPT}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep, played in one go by two processes."""
    return play_sweep(swept(), tmp_path_factory.mktemp("whole"), jobs=2)


def command(file, out, *more):
    return [sys.executable, "-m", "backfire", "sweep", str(file), "--out", str(out), *more]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_every_cell_has_a_finished_run_without_a_report(whole):
    sweep = swept()
    assert (whole.played, whole.already, list(whole.failed)) == (8, 0, [])
    for cell in sweep.cells:
        path = folder_of(whole.folder / "cells", cell.scenario)
        assert RunFolder.open(path).result().scenario_hash == cell.digest
        assert not (path / "report.html").exists()
    assert len(list((whole.folder / "cells").iterdir())) == 8


def test_the_table_says_what_the_results_say(whole):
    assert read_rows(whole.folder) == list(whole.rows)
    by_cell = {}
    for row in whole.rows:
        by_cell.setdefault(row.cell, []).append(row)
    assert len(by_cell) == 8
    for cell in swept().cells:
        found = folder_of(whole.folder / "cells", cell.scenario)
        result = GameResult.model_validate_json((found / "result.json").read_text())
        for row in by_cell[found.name]:
            assert (row.at, row.seed) == (dict(cell.at), cell.seed)
            scores = result.defenders[row.defender]
            if row.agent and hasattr(scores.agents[row.agent], row.score):
                score = getattr(scores.agents[row.agent], row.score)
                assert (row.value, row.count, row.low) == (score.value, score.count, score.low)
            elif row.group and row.score == "asr":
                values = [a.asr.value for a in scores.agents.values() if a.asr is not None]
                assert row.value == pytest.approx(np.mean(values))
                assert row.std == pytest.approx(np.std(values, ddof=1))
                assert row.agents == 2
                assert row.hits == sum(a.asr.hits for a in scores.agents.values() if a.asr)
            elif row.score == "clean_accuracy":
                assert row.value == scores.clean_accuracy.value
            elif row.score == "constant_accuracy":
                assert row.value == scores.constant_accuracy > 0
        assert any(row.score == "constant_accuracy" for row in by_cell[found.name])


def test_filters_are_scored_as_shares_of_the_rows_they_saw(whole):
    shares = {
        row.score: row
        for row in whole.rows
        if row.cell == whole.rows[0].cell and row.defender == "filtered"
    }
    result = RunFolder(whole.folder / "cells" / whole.rows[0].cell).result()
    (one,) = result.defenders["filtered"].filters
    rows = result.rows["defender"] + result.rows["agents"]
    wrong = shares["filter:loss_defence:false_positives"]
    assert wrong.count == rows - one.poisoned
    assert wrong.hits == one.removed - one.true_positives > 0
    missed = shares["filter:loss_defence:false_negatives"]
    assert missed.value + shares["filter:loss_defence:recall"].value == pytest.approx(1)
    assert shares["work"].value == result.defenders["filtered"].work


def test_columns_keep_the_types_of_their_axes(whole):
    table = pyarrow.parquet.read_table(whole.folder / "scores.parquet")
    assert table.column_names[:3] == ["rate", "trigger", "seed"]
    assert str(table.schema.field("rate").type) == "double"
    assert str(table.schema.field("trigger").type) == "string"


def test_a_finished_sweep_plays_nothing_and_a_damaged_cell_is_played_again(whole):
    before = files(whole.folder)
    again = play_sweep(swept(), whole.folder.parent, jobs=1)
    assert (again.played, again.already) == (0, 8)
    assert files(whole.folder) == before
    cell = folder_of(whole.folder / "cells", swept().cells[3].scenario)
    (cell / "agents.parquet").write_bytes(b"PAR1")
    (cell / "report.html").write_text("made by somebody")
    third = play_sweep(swept(), whole.folder.parent, jobs=1)
    assert (third.played, third.already) == (1, 7)
    assert files(whole.folder) == before


def test_one_process_or_two_and_any_order_give_the_same_bytes(whole, tmp_path):
    sweep = swept()
    player, folder = Player(), SweepFolder.take(tmp_path, sweep)
    for cell in reversed(sweep.cells):
        player.play(folder.cells, cell.scenario)
    folder.write_scores()
    folder.close()
    assert files(folder.path) == files(whole.folder)


def test_what_cells_share_changes_no_byte_of_their_models(tmp_path):
    sweep = swept()
    player = Player()
    for cell in sweep.cells[:4:2]:
        shared, alone = tmp_path / "shared", tmp_path / "alone"
        player.play(shared, cell.scenario)
        Player(keep_bytes=0, model_bytes=0).play(alone, cell.scenario)
        one, other = folder_of(shared, cell.scenario), folder_of(alone, cell.scenario)
        for name in ("model.safetensors", "gallery.safetensors", "agents.parquet"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
        first, second = (RunFolder(path).result() for path in (one, other))
        assert first.trainings == second.trainings
        assert first.defenders == second.defenders


def test_equal_cells_are_one_game(tmp_path):
    twice = "sweep.axes={a: {choices: {x: {}, y: {}}}}"
    sweep = swept(twice, "sweep.seeds=1")
    assert sweep.cells[0].digest == sweep.cells[1].digest
    played = play_sweep(sweep, tmp_path, jobs=1)
    assert played.played == 1
    assert [row.at["a"] for row in played.rows] == ["x"] * (len(played.rows) // 2) + ["y"] * (
        len(played.rows) // 2
    )


def test_a_cell_that_fails_is_one_line_and_the_others_go_on(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    # Only training finds that BatchNorm has no variance of a batch of one row.
    one = "{model: {kind: resnet9}, training.batch_size: 1, data.height: 8, data.width: 8}"
    choices = f"{{softmax: {{}}, one: {one}}}"
    axis = f"sweep.axes.model={{choices: {choices}}}"
    sets = ("--set", axis, "--set", "sweep.seeds=1", "--jobs", "1", "--plain")
    ran = CliRunner().invoke(app, ["sweep", str(file), "--out", str(tmp_path), *sets])
    assert ran.exit_code == 3, ran.stderr
    told = [line for line in ran.stderr.splitlines() if line.startswith("failed: ")]
    assert len(told) == 4
    assert all("model=one, seed=0: " in line and "BatchNorm" in line for line in told)
    assert "not finished: 4 failed, 4 played" in ran.stderr
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert not (folder / "scores.parquet").exists()


def test_two_processes_cannot_play_one_sweep(tmp_path):
    held = SweepFolder.take(tmp_path, swept())
    with pytest.raises(RunFolderError, match=f"but process {os.getpid()} is playing it"):
        play_sweep(swept(), tmp_path)
    held.close()


@pytest.mark.slow
def test_killed_five_times_it_gives_the_same_bytes(whole, tmp_path):
    """T56: kill -9 at random moments, of the sweep or of one of its workers."""
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    cells = tmp_path / whole.folder.name / "cells"
    draws = np.random.Generator(np.random.Philox(56))
    for kill in range(5):
        started = subprocess.Popen(
            command(file, tmp_path, "--jobs", "1"), cwd=ROOT, env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        wait_until(partial(begun, started, cells, kill))
        time.sleep(float(draws.uniform(0, 0.1)))
        os.kill(started.pid, signal.SIGKILL)  # the workers see to themselves
        started.communicate()
        assert not (tmp_path / whole.folder.name / "scores.parquet").exists()
    played = play_sweep(swept(), tmp_path, jobs=1)
    assert played.played + played.already == 8
    assert played.already >= 5
    assert files(played.folder) == files(whole.folder)
    names = {path.name for path in cells.glob("*/*")} | {path.name for path in cells.glob("*/.*")}
    assert not {name for name in names if "tmp" in name or name in ("lock", "checkpoints")}


def test_a_worker_that_dies_costs_its_cell_one_more_try(whole, tmp_path):
    killed = []

    def watch(step):
        if not killed and step.done >= 2 and step.playing:
            killed.append(child_of(os.getpid()))
            os.kill(killed[0], signal.SIGKILL)

    played = play_sweep(swept(), tmp_path, jobs=1, watch=watch)
    assert killed
    assert not played.failed
    assert files(played.folder) == files(whole.folder)


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_says_how_to_go_on(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    started = subprocess.Popen(
        command(file, tmp_path, "--jobs", "1"), cwd=ROOT, env=ENVIRONMENT,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: list(tmp_path.glob("*/cells/*/result.json")))
    os.killpg(started.pid, signal.SIGINT)
    told = started.communicate(timeout=60)[1]
    assert started.returncode == 130
    assert "is unfinished; start the same command again" in told
    assert "Traceback" not in told


class Crew:
    """Workers all of which die of a certain cell; one submitted alone waits for nobody."""

    def __init__(self, size, deadly):
        self.size, self.deadly, self.open, self.broken = size, deadly, [], False

    def submit(self, task):
        if self.broken:
            raise BrokenProcessPool("dead")
        future = Future()
        self.open.append((task, future))
        threading.Timer(0.2, self.finish).start()
        return future

    def finish(self):
        taken, self.open = self.open, []
        self.broken = self.broken or any(task.text == self.deadly for task, _ in taken)
        for task, future in taken:
            if self.broken:
                future.set_exception(BrokenProcessPool("dead"))
            else:
                future.set_result(Done(Player().play(Path(task.root), parse(task.text, "c"))))

    def close(self, *, kill):
        pass


def test_a_cell_that_kills_its_process_fails_alone(tmp_path):
    sweep = swept("sweep.seeds=1")
    deadly = json.dumps(sweep.cells[1].scenario.resolved())
    folder = SweepFolder.take(tmp_path, sweep)
    table = _ScoreTable(folder, deque(sweep.cells), 4, lambda step: None)
    table.play(lambda: Crew(2, deadly))
    folder.close()
    assert [failure.cell for failure in table.failed] == [sweep.cells[1]]
    assert "its process died" in table.failed[0].message
    assert [folder.finished(cell) for cell in sweep.cells] == [True, False, True, True]


def test_what_is_seen_while_it_is_played():
    cells = swept().cells
    seen = io.StringIO()
    steps = [
        Step(0, 8, cells[:2]),
        Step(1, 8, cells[1:2], cells[0], seconds=1.25, left=200.0),
        Step(2, 8, [], cells[1], error="no room\x1b[2J"),
    ]
    with watched(Console(file=seen), plain=True) as watch:
        for step in steps:
            watch(step)
    assert seen.getvalue().splitlines() == [
        "1/8 rate=0.2, trigger=fixed, seed=0: 1.2 s; about 3 min left",
        "2/8 rate=0.2, trigger=fixed, seed=1: failed: no room\\x1b[2J",
    ]
    live = Console(file=io.StringIO(), force_terminal=True, width=100)
    with watched(live) as watch:
        watch(steps[1])
    drawn = live.file.getvalue()
    assert "1/8 games" in drawn
    assert "about 3 min left" in drawn
    assert "rate=0.2, trigger=fixed, seed=1" in drawn


def test_axes_of_any_values_come_back_as_they_were(tmp_path):
    axes = "{mixed: {field: referee.alone, values: [all, 1]}, yes: {field: referee.cross_asr, "
    sweep = swept("sweep.axes=" + axes + "values: [true, false]}}", "sweep.seeds=1")
    (tmp_path / "sweep.yaml").write_bytes(yaml_bytes(sweep.document()))
    rows = [
        ScoreRow(cell.at, cell.seed, cell.folder, "d", "", "", "work", 1.0) for cell in sweep.cells
    ]
    write_rows(tmp_path, sweep.spec, rows)
    back = read_rows(tmp_path)
    assert back == rows
    assert [type(value) for value in back[-1].at.values()] == [int, bool]


@pytest.mark.ray
@pytest.mark.slow
def test_ray_plays_the_same_bytes(whole, tmp_path):
    pytest.importorskip("ray")
    played = play_sweep(swept(), tmp_path, jobs=1, runtime="ray")
    assert not played.failed
    assert files(played.folder) == files(whole.folder)


def test_json_says_where_everything_is(whole, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    ran = CliRunner().invoke(app, ["sweep", str(file), "--out", str(whole.folder.parent), "--json"])
    told = json.loads(ran.stdout)
    assert told["folder"] == str(whole.folder)
    assert (told["played"], told["already"], told["failed"]) == (0, 8, [])
    assert Path(told["scores"]).is_file()
    assert Path(told["report"]).is_file()
    assert (whole.folder / "card.json").is_file()


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def begun(started, cells, more_than):
    return started.poll() is not None or len(list(cells.glob("*/result.json"))) > more_than


def child_of(pid):
    """Return the worker among a process' children: the one that `multiprocessing` spawned."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                return int(path.name)
        except OSError:
            continue
    raise AssertionError("no worker")
