"""The run folder: never torn, never shared, never trusted."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.loader import load
from scenarios.scenario import Scenario
from scenarios.text import yaml_reader
from server.referee.registry import definitions
from server.referee.results import (
    AgentRecord,
    AgentScores,
    Curve,
    DefenderScores,
    Difference,
    GameResult,
    Score,
)
from server.store import atomic, reading
from server.store.run_folder import CHECKED, RunFolder, RunFolderError

NAMES = ("honest", "=cmd|' /C calc'!A0", "<script>alert(1)</script>")


def make_scenario(seed: int = 0, name: str = "tiny game/../x") -> Scenario:
    return Scenario.model_validate(
        {
            "name": name,
            "data": {"kind": "digits"},
            "model": {"kind": "small_cnn"},
            "training": {"optimizer": {"kind": "adam", "eps": 1e-12}},
            "agents": [{"name": n, "behaviour": {"kind": "benign"}} for n in NAMES],
            "defenders": {"undefended": [], "no": [{"kind": "agent_indexing"}]},
            "seed": seed,
        }
    )


def make_result(scenario: Scenario, loss: float = 0.5) -> GameResult:
    score = Score(value=0.5, hits=10, count=20, low=0.3, high=0.7)
    scored = AgentScores(
        run_time_accuracy=score,
        asr=score,
        interference=Difference(value=-0.1, count=20, low=-0.3, high=0.1),
    )
    defender = DefenderScores(
        defences=(),
        clean_accuracy=score,
        clean_accuracy_attacker_free=None,
        adversarial_accuracy={},
        groups={},
        malicious=None,
        agents={NAMES[0]: AgentScores(run_time_accuracy=score), NAMES[1]: scored},
        cross_asr=None,
        filters=(),
        curves=(Curve(name="shared", points=({"loss": loss},)),),
        work=1,
    )
    roster = tuple(
        AgentRecord(
            name=name,
            group=name,
            behaviour="benign",
            malicious=name != NAMES[0],
            rows=10,
            poisoned_rows=0,
            target=3 if name == NAMES[1] else None,
            source=None,
            admitted=name != NAMES[2],
        )
        for name in NAMES
    )
    return GameResult(
        scenario=scenario.name,
        scenario_hash=scenario.digest(),
        game="pooled",
        seed=scenario.seed,
        class_names=tuple("0123456789"),
        rows={"defender": 1, "agents": 30, "test": 5},
        roster=roster,
        quarantined=(),
        defenders={"undefended": defender, "no": defender},
        verdict=("Nothing was found.",),
        definitions=definitions(),
        trainings=2,
        seconds={"training": 1.5},
    )


def play(root: Path, *, overwrite: bool = False, loss: float = 0.5) -> Path:
    scenario = make_scenario()
    with RunFolder.create(root, scenario, overwrite=overwrite) as run:
        run.write_environment("cpu", ["backfire", "run", "x.yaml"])
        run.record({"phase": "training", "loss": float("nan")}, {"phase": "scoring"})
        run.write_model({"undefended/0.weight": torch.arange(6.0).reshape(2, 3).T})
        run.write_gallery({f"original/{NAMES[2]}": torch.rand(2, 1, 8, 8)})
        run.finish(make_result(scenario, loss))
    return run.path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    scenario = make_scenario()
    path = play(tmp_path)
    run = RunFolder.open(path)
    assert path == tmp_path / f"tiny-game-x-{scenario.digest()[:12]}"
    assert run.result() == make_result(scenario)
    assert run.scenario() == scenario.resolved()
    assert load(path / "scenario.yaml") == scenario
    assert run.environment()["device"] == "cpu"
    assert run.environment()["packages"]["torch"] == torch.__version__
    assert run.rounds() == [{"phase": "training", "loss": "NaN"}, {"phase": "scoring"}]
    assert run.gallery()[f"original/{NAMES[2]}"].shape == (2, 1, 8, 8)
    assert sorted(p.name for p in path.iterdir()) == sorted([*CHECKED, "checksums.json"])
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1


def test_a_diverged_training_is_a_result_too(tmp_path: Path) -> None:
    found = RunFolder.open(play(tmp_path, loss=float("inf"))).result()
    assert found.defenders["no"].curves[0].points[0]["loss"] == float("inf")


def test_the_table_has_a_row_for_each_agent_and_defender(tmp_path: Path) -> None:
    rows = pyarrow.parquet.read_table(play(tmp_path) / "agents.parquet").to_pylist()
    assert [(row["defender"], row["agent"]) for row in rows] == [
        (defender, name) for defender in ("undefended", "no") for name in NAMES
    ]
    scored = rows[1]
    assert (scored["asr"], scored["asr_hits"], scored["asr_count"]) == (0.5, 10.0, 20)
    assert (scored["interference"], scored["interference_low"]) == (-0.1, -0.3)
    assert (scored["target"], rows[0]["target"], rows[0]["asr"]) == (3, None, None)
    assert rows[2]["run_time_accuracy"] is None
    assert not rows[2]["admitted"]


WORDS = st.sampled_from(["no", "1e-3", "8/255", "0o17", "010", "~", "true", "x: y", "- a", "#", ""])
TEXT = WORDS | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
VALUES = TEXT | st.integers(-(2**63), 2**63) | st.booleans() | st.none()
VALUES |= st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(TEXT, VALUES | st.lists(VALUES, max_size=3), max_size=4))
def test_our_yaml_reader_reads_what_our_writer_wrote(value: dict[str, object]) -> None:
    found = yaml_reader.read(atomic.yaml_bytes({"a": value, "b": [value]}).decode()).data
    assert found == {"a": value, "b": [value]}
    assert repr(found) == repr({"a": value, "b": [value]})


# A killed process

CRASH = """
    import os, sys
    from pathlib import Path
    from server.store import atomic

    path, how = Path(sys.argv[1]), sys.argv[2]
    old, new = b"old " * 5000, b"new " * 9000

    def write():
        if how == "append":
            atomic.append_lines(path, [{"line": k, "pad": "x" * 9000} for k in range(3)])
        else:
            atomic.write_bytes(path, new)

    def crashing(name, at, calls):
        real = getattr(os, name)
        def call(*arguments, **named):
            calls.append(name)
            if len(calls) > at:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os._exit(9)
            return real(*arguments, **named)
        return call

    def attempt(at):
        child = os.fork()
        if child == 0:
            calls = []
            for name in ("open", "write", "fsync", "rename", "replace", "close", "ftruncate"):
                setattr(os, name, crashing(name, at, calls))
            write()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    seen, at, code = set(), 0, 9
    while code == 9:
        path.write_bytes(old if how == "replace" else b'{"line": "old"}\\n')
        code = attempt(at)
        found = path.read_bytes()
        if how == "replace":
            assert found in (old, new), (at, len(found))
            seen.add(found == new)
        else:
            atomic.append_lines(path, [{"line": "after"}])
            lines = path.read_bytes().splitlines()
            assert lines[0] == b'{"line": "old"}' and lines[-1] == b'{"line":"after"}', at
            assert len(lines) in range(2, 6), at
            seen.add(len(lines) == 5)
        at += 1
    assert code == 0, code
    assert seen == {False, True}, "no crash came before and after the change"
    print(at)
"""


@pytest.mark.parametrize(("how", "steps"), [("replace", 6), ("append", 4)])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_file(
    tmp_path: Path, how: str, steps: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(tmp_path / "file"), how],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= steps


def test_a_run_killed_before_its_result_is_not_done_and_is_taken_over(tmp_path: Path) -> None:
    path = play(tmp_path)
    (path / "result.json").unlink()
    (path / ".model.safetensors.1234.tmp").write_bytes(b"half")
    (path / "checkpoints" / "federated").mkdir(parents=True)
    old = path / "checkpoints" / "federated" / f"round-000001.{'0' * 64}.safetensors"
    old.write_bytes(b"of the run before")
    with pytest.raises(RunFolderError, match="finished run"):
        RunFolder.open(path)
    with RunFolder.create(tmp_path, make_scenario()) as run:
        assert run.path == path
        assert not run.finished()
        assert sorted(p.name for p in path.iterdir()) == ["lock", "scenario.yaml"]


# A full disk


def _writers(path: Path) -> dict[str, object]:
    table = pyarrow.table({"a": list(range(50_000))})
    return {
        "bytes": lambda: atomic.write_bytes(path, b"x" * 200_000),
        "tensors": lambda: atomic.write_tensors(path, {"a": torch.zeros(50_000)}),
        "table": lambda: atomic.write_table(path, table),
        "lines": lambda: atomic.append_lines(path, [{"a": "x" * 200_000}]),
    }


@pytest.mark.parametrize("kind", ["bytes", "tensors", "table", "lines"])
def test_t7_where_the_disk_takes_no_more_the_old_file_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError):
            _writers(path)[kind]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"precious\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_t7_a_full_disk_is_one_line_and_the_run_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    scenario = make_scenario()
    with RunFolder.create(tmp_path, scenario) as run:
        before = (run.path / "scenario.yaml").read_bytes()
        monkeypatch.setattr(os, step, full)
        with pytest.raises(RunFolderError, match="No space left") as caught:
            run.finish(make_result(scenario))
        monkeypatch.undo()
        assert "\n" not in str(caught.value)
        for write in (
            lambda: run.write_environment("cpu"),
            lambda: run.record({"a": 1}),
            lambda: run.write_report(b"page"),
        ):
            monkeypatch.setattr(os, step, full)
            with pytest.raises(RunFolderError, match="No space left"):
                write()
            monkeypatch.undo()
        assert not run.finished()
        assert (run.path / "scenario.yaml").read_bytes() == before
        assert not list(run.path.glob(".*"))
    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunFolderError, match="--out"):
        RunFolder.create(tmp_path, make_scenario(seed=1))


# Two processes

HOLD = """
    import sys, time
    from pathlib import Path
    from server.store.lock import Lock
    lock = Lock.take(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_t10_a_second_process_is_refused_by_pid_and_a_dead_one_is_not_waited_for(
    tmp_path: Path,
) -> None:
    run = RunFolder.create(tmp_path, make_scenario())
    with pytest.raises(RunFolderError, match=f"process {os.getpid()} "):
        RunFolder.create(tmp_path, make_scenario())
    run.close()
    run.close()
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match=f"process {holder.pid} "):
        RunFolder.create(tmp_path, make_scenario())
    holder.kill()
    holder.communicate()
    assert (run.path / "lock").read_text() == f"{holder.pid}\n"
    with RunFolder.create(tmp_path, make_scenario()) as again:
        assert again.path == run.path
        assert (run.path / "lock").read_text() == f"{os.getpid()}\n"
    assert not (run.path / "lock").exists()


def test_a_finished_run_stays_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    first = play(tmp_path)
    kept = (first / "result.json").read_bytes()
    second = play(tmp_path)
    assert second.name == f"{first.name}-2"
    assert play(tmp_path).name == f"{first.name}-3"
    assert (first / "result.json").read_bytes() == kept
    assert play(tmp_path, overwrite=True, loss=0.25) == first
    assert RunFolder.open(first).result().defenders["no"].curves[0].points[0]["loss"] == 0.25


def test_t45_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="--out") as caught:
        RunFolder.create(tmp_path / "file", make_scenario())
    assert "\n" not in str(caught.value)


# Damage and malice


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = play(tmp_path)
    names = [*CHECKED, "checksums.json"]
    generator = np.random.default_rng(0)
    for _ in range(1000):
        file = path / names[generator.integers(len(names))]
        original = file.read_bytes()
        damaged = bytearray(original)
        bit = int(generator.integers(8 * len(original)))
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(RunFolderError) as caught:
            RunFolder.open(path)
        assert str(caught.value).isprintable()
        file.write_bytes(original)
    assert RunFolder.open(path).finished()


@pytest.mark.parametrize("name", CHECKED)
def test_a_missing_or_truncated_file_is_found(tmp_path: Path, name: str) -> None:
    path = play(tmp_path)
    (path / name).write_bytes((path / name).read_bytes()[:-1])
    with pytest.raises(RunFolderError, match=name):
        RunFolder.open(path)
    (path / name).unlink()
    with pytest.raises(RunFolderError, match=name):
        RunFolder.open(path)


def _forge(path: Path, name: str, data: bytes) -> None:
    """Replace a file and its checksum, as somebody who means harm can."""
    (path / name).write_bytes(data)
    sums = json.loads((path / "checksums.json").read_bytes())
    sums[name] = hashlib.sha256(data).hexdigest()
    (path / "checksums.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("result.json", b"[" * 100_000, "result of a game"),
        ("result.json", b"{}", "Field required"),
        ("result.json", b'{"\x1b[2J\\u001b[2J": 1}', "result of a game"),
        ("scenario.yaml", b"a: &x [1]\nb: *x\n", "scenario.yaml:1"),
        ("scenario.yaml", b"!!python/object/apply:os.system ['touch canary']\n", "scenario.yaml:1"),
        ("scenario.yaml", b"- 1\n", "mapping"),
        ("scenario.yaml", b"name: another game\n", "hash"),
        ("scenario.yaml", b"#" * (1 << 20) + b"#", "at most 1048576 bytes"),
    ],
)
def test_hostile_files_are_refused_in_one_line(
    tmp_path: Path, name: str, data: bytes, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = play(tmp_path)
    _forge(path, name, data)
    with pytest.raises(RunFolderError, match=match) as caught:
        RunFolder.open(path)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "canary").exists()


def test_checksums_cannot_point_outside_the_folder(tmp_path: Path) -> None:
    path = play(tmp_path)
    (tmp_path / "secret").write_text("secret")
    _forge(path, "../secret", b"secret")
    with pytest.raises(RunFolderError, match="too many"):
        RunFolder.open(path)


def test_links_pipes_and_large_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = play(tmp_path)
    result = (path / "result.json").read_bytes()
    for make in (lambda p: p.symlink_to("/dev/zero"), os.mkfifo, Path.mkdir):
        (path / "result.json").unlink()
        make(path / "result.json")
        with pytest.raises(RunFolderError, match=r"result\.json: expected a file"):
            RunFolder.open(path)
        if make is Path.mkdir:
            (path / "result.json").rmdir()
            (path / "result.json").write_bytes(result)
    monkeypatch.setattr(reading, "MAX_RESULT", 100)
    with pytest.raises(RunFolderError, match="at most 100 bytes"):
        RunFolder.open(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        (2**62).to_bytes(8, "little") + b"{}",
        (68).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,8]}}  ',
        (64).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1,1,1,2],"data_offsets":[-8,0]}}   ',
    ],
)
def test_hostile_tensors_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = play(tmp_path)
    _forge(path, "gallery.safetensors", data)
    with pytest.raises(RunFolderError) as caught:
        RunFolder.open(path).gallery()
    assert str(caught.value).isprintable()


def test_images_of_another_type_are_refused(tmp_path: Path) -> None:
    scenario = make_scenario()
    with RunFolder.create(tmp_path, scenario) as run:
        run.write_gallery({"original/x": torch.zeros(2, 1, 8, 8, dtype=torch.float64)})
        run.finish(make_result(scenario))
    with pytest.raises(RunFolderError, match="float64"):
        RunFolder.open(run.path).gallery()


def test_the_result_of_another_scenario_cannot_finish_the_run(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, make_scenario()) as run:
        with pytest.raises(RunFolderError, match="hash"):
            run.finish(make_result(make_scenario(seed=1)))
        assert not run.finished()


def test_shared_memory_and_views_are_stored(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    atomic.write_tensors(tmp_path / "m", {"a": whole[1], "b": whole[1], "c": whole.T})
    found = reading.safe_open(tmp_path / "m", framework="np")
    np.testing.assert_array_equal(found.get_tensor("c"), whole.T.numpy())
    np.testing.assert_array_equal(found.get_tensor("b"), whole[1].numpy())


def test_a_copy_of_a_run_opens_anywhere(tmp_path: Path) -> None:
    shutil.copytree(play(tmp_path / "a"), tmp_path / "b")
    assert RunFolder.open(tmp_path / "b").result().scenario == "tiny game/../x"
