"""`backfire resume` on the command line, and what Ctrl-C and SIGTERM leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.errors import INTERRUPTED, TERMINATED
from backfire.playing import play, resume
from scenarios.loader import load
from server.store import checkpoints
from server.store.run_folder import RunFolder

SCENARIO = """
name: stoppable
game: federated
data: {kind: synthetic, classes: 3, channels: 1, height: 6, width: 6, train_per_class: 12,
       test_per_class: 4}
model: {kind: mlp, hidden: [4]}
training: {batch_size: 8}
federation: {rounds: 3, local_epochs: 1}
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - {name: mallory, behaviour: {kind: backdoor, poison_rate: 0.5,
     trigger: {kind: random_badnet, epsilon: 0.3}}}
defenders: {plain: []}
referee: {alone: 0, adversarial: []}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "stoppable.yaml"
    path.write_text(SCENARIO)
    return path


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], prog_name="backfire")


def cut_off(file: Path, out: Path, number: int, monkeypatch) -> Path:
    monkeypatch.setattr(checkpoints, "SHARE", 1.0)

    def stop(event):
        if event.phase == "round" and event.done == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        play(load(file), out=out, progress=stop)
    return Path(str(stopped.value))


def test_t5_resume_goes_on_and_ends_as_run_does(file, tmp_path, monkeypatch):
    folder = cut_off(file, tmp_path / "cut", 3, monkeypatch)
    done = invoke("resume", folder, "--plain")
    assert done.exit_code == 0, done.stderr
    assert "resumed 2/3: after round 2" in done.stderr.splitlines()
    assert "report.html" in done.stdout
    straight = play(load(file), out=tmp_path / "whole").folder
    for name in ("model.safetensors", "agents.parquet", "gallery.safetensors", "scenario.yaml"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes()


def test_a_finished_run_says_so_and_is_left_as_it_is(file, tmp_path):
    folder = play(load(file), out=tmp_path).folder
    (folder / "report.html").unlink()
    (folder / "checkpoints").mkdir()
    before = (folder / "result.json").read_bytes()
    done = invoke("resume", folder)
    assert done.exit_code == 0
    assert "this run is finished; nothing is left to play" in done.stdout
    assert (folder / "report.html").exists()
    assert not (folder / "checkpoints").exists()
    told = json.loads(invoke("resume", folder, "--json").stdout)
    assert told["folder"] == str(folder)
    assert told["result"] == json.loads(before)
    assert (folder / "result.json").read_bytes() == before


def test_what_cannot_be_resumed_is_one_line(file, tmp_path, monkeypatch):
    done = invoke("resume", tmp_path)
    assert done.exit_code == 3
    assert done.stderr.startswith(f"error: {tmp_path}: expected a run folder")
    assert done.stderr.count("\n") == 1
    folder = cut_off(file, tmp_path, 2, monkeypatch)
    (folder / "scenario.yaml").write_text(SCENARIO.replace("hidden: [4]", "hidden: [5]"))
    done = invoke("resume", folder)
    assert done.exit_code == 3
    assert "the scenario was changed" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


SIGNALS = """
    import os, signal, sys, time
    from pathlib import Path
    import backfire.cli.main, backfire.playing

    file, out = sys.argv[1:]
    for name in ("SIGINT", "SIGTERM"):
        where = Path(out) / name
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            sys.argv = ["backfire", "run", file, "--out", str(where), "--set",
                        "federation.rounds=100000"]
            with open(f"{where}.log", "w") as log:
                os.dup2(log.fileno(), 2)
                try:
                    backfire.cli.main.main()
                except SystemExit as end:
                    sys.stderr.flush()
                    os._exit(end.code)
                os._exit(99)
        kept = []
        while not kept and os.waitpid(child, os.WNOHANG) == (0, 0):
            kept = list(where.glob("*/checkpoints/federated/round-*.safetensors"))
            time.sleep(0.02)
        os.kill(child, getattr(signal, name))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            os.killpg(child, 0)
            left = "orphans"
        except ProcessLookupError:
            left = "nobody"
        print(code, left, flush=True)
"""


def test_t6_ctrl_c_and_sigterm_end_with_their_codes_and_a_sound_checkpoint(file, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SIGNALS), str(file), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == f"{INTERRUPTED} nobody\n{TERMINATED} nobody\n", done.stderr
    assert (INTERRUPTED, TERMINATED) == (130, 143)
    for name in ("SIGINT", "SIGTERM"):
        (folder,) = (tmp_path / name).iterdir()
        said = (tmp_path / f"{name}.log").read_text()
        assert said.splitlines()[-1] == (
            f"stopped; the run folder is unfinished; go on with:  backfire resume {folder}"
        )
        assert "Traceback" not in said
        assert not list(folder.rglob("*.tmp"))
        assert not (folder / "lock").exists()
        keeper = RunFolder(folder).checkpoints(load(folder / "scenario.yaml").digest())
        kept = max(p.name for p in (folder / "checkpoints" / "federated").glob("round-*"))
        played = []

        def stop(event, played=played):
            if event.phase in ("resumed", "round"):
                played.append(event.done)
            if event.phase == "round":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            resume(folder, progress=stop)
        assert played == [int(kept[6:12]), int(kept[6:12]) + 1]
        keeper.clear()
