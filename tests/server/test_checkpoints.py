"""Checkpoints: found whole or not at all, of this game or refused, and free of code.

T8 is in test_resume.py, where processes are killed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from server.errors import RunFolderError
from server.games.federated_state import FederationState, SideState, misfit, taken_apart
from server.referee.results import Quarantine, RoundScores
from server.store import checkpoints
from server.store.checkpoints import Checkpoints
from server.wire.admission import Wanted
from server.wire.tensors import chunks
from strategies.federated import ServerState

SCENARIO = "5c" * 32
PLAIN, STEPPED = ("mean", "attacked", ""), ("odd/name", "alone: mallory", "without 7")


def progress(number: int = 2) -> FederationState:
    draw = torch.Generator().manual_seed(number)
    plain = ServerState(torch.randn(7, generator=draw), {})
    stepped = ServerState(
        torch.randn(7, generator=draw),
        {"norm.mean": torch.randn(2, generator=draw), "norm.count": torch.tensor(3)},
        {"history/a/b": torch.randn(2, 3, generator=draw).double(), "mask": torch.tensor([True])},
        {"mean": torch.randn(7, generator=draw).to(torch.bfloat16), "square": torch.empty(0)},
    )
    entry = RoundScores(
        round=1, sampled=("a",), admitted=("a",), skipped=False, selected=None,
        clean_accuracy=None, asr={}, note="1/3 \u00e9",
    )  # fmt: skip
    return FederationState(
        round=number,
        sides={PLAIN: SideState(plain), STEPPED: SideState(stepped, {"w": torch.ones(2, 2).T})},
        told=dict.fromkeys(("mean", "odd/name"), (entry,) * number),
        quarantined=(Quarantine(agent="a", code="shape", message="line", stage="update"),),
        trainings=9,
        notes=("a note",),
        seconds={"rounds": 0.1 + 0.2},
    )


def assert_equal(one: FederationState, other: FederationState) -> None:
    (facts, tensors), (others, found) = taken_apart(one), taken_apart(other)
    assert facts == others
    assert tensors.keys() == found.keys()
    for name, value in tensors.items():
        assert value.dtype == found[name].dtype
        assert torch.equal(value, found[name]), name


@pytest.fixture
def fresh(tmp_path):
    """Return keepers of one folder; each is a process of its own as far as it knows."""

    def keeper(*, resuming: bool = True, scenario: str = SCENARIO) -> Checkpoints:
        return Checkpoints(tmp_path / "checkpoints", scenario, resuming=resuming).of("federated")

    return keeper


def save(keeper: Checkpoints, *numbers: int) -> None:
    for number in numbers:
        keeper.keep(progress(number), last=True)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "checkpoints" / "federated").glob("round-*"))


def test_t5_what_is_kept_is_found_bit_for_bit(fresh, tmp_path):
    save(fresh(), 1, 2)
    found = fresh().newest()
    assert found is not None
    assert_equal(found, progress(2))
    assert list(found.sides) == [PLAIN, STEPPED]
    assert found.sides[PLAIN].standing.step is None
    assert found.sides[PLAIN].previous is None
    assert misfit(found, progress(1), rounds=2) is None


def test_tensors_are_written_as_the_library_reads_them(tmp_path):
    _, tensors = taken_apart(progress())
    tensors |= {"half": torch.ones(3).half(), "small": torch.tensor([-1], dtype=torch.int8)}
    (tmp_path / "file").write_bytes(b"".join(chunks(tensors, {"about": "\u00e9"})))
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_last_two_are_kept_and_all_is_cleared(fresh, tmp_path):
    keeper = fresh()
    save(keeper, 1, 2, 3)
    assert [path.name[:12] for path in files(tmp_path)] == ["round-000002", "round-000003"]
    assert [path.name.split(".")[1] for path in files(tmp_path)] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in files(tmp_path)
    ]
    (tmp_path / "checkpoints" / "mine.txt").write_text("")
    Checkpoints(tmp_path / "checkpoints", SCENARIO).clear()
    assert [path.name for path in (tmp_path / "checkpoints").rglob("*")] == ["mine.txt"]


def test_keeping_takes_a_tenth_of_the_time_at_most(tmp_path):
    times = iter([0.0, 1.0, 9.9, 10.0, 10.5, 11.0, 12.0, 13.0])
    keeper = Checkpoints(tmp_path, SCENARIO, clock=lambda: next(times))
    kept = []
    for number in range(1, 6):
        keeper.keep(progress(number), last=number == 5)
        kept.append(len(list(tmp_path.glob(f"round-{number:06d}.*"))))
    # The first took 1 s, the third 0.5 s; the last is kept in any case.
    assert kept == [1, 0, 1, 0, 1]


def damage(data: bytes, generator: np.random.Generator) -> bytes:
    if generator.random() < 0.2:
        return data[: int(generator.integers(len(data)))]
    changed = bytearray(data)
    bit = int(generator.integers(8 * len(data)))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_t9_of_1000_flipped_bits_and_truncations_each_is_found(fresh, tmp_path):
    save(fresh(), 1, 2)
    newest = files(tmp_path)[-1]
    original, generator = newest.read_bytes(), np.random.default_rng(0)
    for _ in range(1000):
        newest.write_bytes(damage(original, generator))
        keeper = fresh()
        found = keeper.newest()
        assert found is not None
        assert found.round == 1
        event = keeper.resumed(5, found)
        assert event.note == "after round 1; damaged: round 2 (changed or cut off)"
        assert event.facts["round"] == 1
    newest.write_bytes(original)
    assert_equal(fresh().newest(), progress(2))


def test_t9_where_none_is_whole_the_game_begins_anew_and_says_so(fresh, tmp_path):
    save(fresh(), 1, 2)
    for path in files(tmp_path):
        path.write_bytes(b"")
    files(tmp_path)[0].unlink()
    keeper = fresh()
    assert keeper.newest() is None
    assert keeper.resumed(5).note == "from the beginning; damaged: round 2 (changed or cut off)"
    assert fresh(resuming=False).resumed(5) is None


# What the agents handed over

COLUMNS = (("x", "float32", (1, 2, 2)), ("y", "int64", ()))
WANTED = [Wanted(name, "contribute", rows, COLUMNS) for name, rows in zip("abc", (2, 0, 3))]  # noqa: B905
REFUSED = Quarantine(agent="c", code="shape", message="why", stage="contribution")


def rows(first: int, count: int):
    x = np.arange(first, first + 4 * count, dtype=np.float32).reshape(count, 1, 2, 2)
    return {"x": x, "y": np.arange(count)}


def answer(shelf):
    shelf.put("c", 1, rows(8, 1))
    shelf.put("a", 1, rows(4, 1))
    shelf.put("a", 0, rows(0, 1))
    return shelf.rows(["a", "b"]), [REFUSED]


def never(shelf):
    raise AssertionError("the agents were asked again")


def collect(keeper, ask, wanted=WANTED):
    return keeper.collected("contribute", wanted, ask)


def test_what_agents_hand_over_is_asked_for_once(fresh):
    for keeper, ask in ((fresh(resuming=False), answer), (fresh(), never)):
        found, refused = collect(keeper, ask)
        assert refused == [REFUSED]
        assert list(found) == ["a", "b"]
        np.testing.assert_array_equal(found["a"]["x"], rows(0, 2)["x"])
        assert found["a"]["y"].tolist() == [0, 0]
        assert found["b"]["x"].shape == (0, 1, 2, 2)
        found["a"]["x"][:] = -1  # private to whoever holds it
    assert fresh().resumed(0).note == "with the contributions kept"


def test_nothing_that_is_handed_to_defences_knows_the_run_folder(fresh, tmp_path):
    found, _ = collect(fresh(), answer)
    base = found["a"]["x"]
    while base is not None:
        assert not isinstance(base, np.memmap)
        assert not hasattr(base, "filename")
        base = getattr(base, "base", getattr(base, "obj", None))


def test_t9_rows_that_were_changed_are_asked_for_again(fresh, tmp_path):
    collect(fresh(), answer)
    folder, generator = tmp_path / "checkpoints" / "federated", np.random.default_rng(1)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(kept) == 3
    for path, original in kept.items():
        for _ in range(60):
            path.write_bytes(damage(original, generator))
            keeper = fresh()
            with pytest.raises(AssertionError, match="asked again"):
                collect(keeper, never)
            assert keeper.resumed(0).note == "agents are asked again; damaged: contribute"
            for other, content in kept.items():
                other.write_bytes(content)
    next(folder.glob("*.y.rows")).unlink()
    collect(fresh(), answer)
    collect(fresh(), never)


def test_rows_of_another_question_are_not_taken(fresh):
    collect(fresh(), answer)
    with pytest.raises(AssertionError, match="asked again"):
        collect(fresh(), never, WANTED[:2])


def test_a_checkpoint_made_with_other_rows_is_not_taken(fresh, tmp_path):
    keeper = fresh()
    collect(keeper, answer)
    save(keeper, 1)
    keeper = fresh()
    keeper.collected("contribute", WANTED[:1], lambda shelf: (shelf.rows(["a"]), []))
    assert keeper.newest() is None
    assert keeper.resumed(5).note == (
        "from the beginning; damaged: contribute, round 1 (made with other run-time sets)"
    )


# Of another game


def test_checkpoints_of_another_scenario_or_version_are_refused(fresh, tmp_path, monkeypatch):
    keeper = fresh()
    collect(keeper, answer)
    save(keeper, 1)
    other = fresh(scenario="0f" * 32)
    for ask in (other.newest, lambda: collect(other, never)):
        with pytest.raises(RunFolderError, match="scenario 0f0f0f0f0f0f, got one of 5c5c5c5c5c5c:"):
            ask()
    monkeypatch.setattr(checkpoints, "version", lambda: "99.0")
    for ask in (fresh().newest, lambda: collect(fresh(), never)):
        with pytest.raises(RunFolderError, match=r"Backfire 99\.0, got one of .*backfire run"):
            ask()


def test_a_checkpoint_of_other_models_does_not_fit():
    start, found = progress(1), progress(2)
    assert "round of 1 to 1" in misfit(found, start, 1)
    sides = {PLAIN: found.sides[PLAIN]}
    assert "2 models" in misfit(FederationState(2, sides, found.told), start, 5)
    sides = {key: SideState(ServerState(torch.zeros(8), {})) for key in found.sides}
    assert "weights" in misfit(FederationState(2, sides, found.told), start, 5)
    told = dict.fromkeys(found.told, ())
    assert "2 rounds" in misfit(FederationState(2, found.sides, told), start, 5)


# T44


class Canary:
    def __reduce__(self):
        return (os.mkdir, ("canary",))


HOSTILE = {
    "a pickle": pickle.dumps(Canary()),
    "nothing": b"",
    "a header beyond the file": (2**62).to_bytes(8, "little") + b"{}",
    "no facts": b"".join(chunks({"a": torch.ones(1)}, {})),
    "offsets that overlap": (115).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(115)
    + bytes(8),
    "an offset below zero": (64).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}'.ljust(64),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_t44_a_checkpoint_that_means_harm_is_refused_in_one_line(
    what, fresh, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    save(fresh(), 1)
    folder, data = tmp_path / "checkpoints" / "federated", HOSTILE[what]
    name = f"round-000002.{hashlib.sha256(data).hexdigest()}.safetensors"
    (folder / name).write_bytes(data)
    with pytest.raises(RunFolderError, match="expected a checkpoint, got") as caught:
        fresh().newest()
    assert str(caught.value).isprintable()
    for suffix in (".pt", ".pkl"):
        (folder / name).replace(folder / name.replace(".safetensors", suffix))
        assert fresh().newest().round == 1
        name = name.replace(".safetensors", suffix)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"round": 3},
        {"sides": [["a", "b"]]},
        {"sides": [["mean", "attacked", ""]] * 3},
        {"stepped": [0]},
        {"told": {"mean": [{}]}},
        {"more": 1},
    ],
)
def test_t44_facts_that_do_not_fit_the_tensors_are_refused(change, fresh, tmp_path):
    save(fresh(), 2)
    (path,) = files(tmp_path)
    tensors = load_file(path)
    facts = json.loads(tensors["facts"].numpy().tobytes()) | change
    tensors["facts"] = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    with checkpoints.safe_open(path, framework="pt") as whole:
        about = whole.metadata()
    data = b"".join(chunks(tensors, about))
    path.unlink()
    path.with_name(f"round-000002.{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)
    with pytest.raises(RunFolderError, match="expected"):
        fresh().newest()


def test_links_and_folders_in_place_of_checkpoints_are_not_followed(fresh, tmp_path):
    save(fresh(), 1)
    folder = tmp_path / "checkpoints" / "federated"
    (folder / f"round-000002.{'0' * 64}.safetensors").symlink_to("/dev/zero")
    (folder / f"round-000003.{'0' * 64}.safetensors").mkdir()
    keeper = fresh()
    assert keeper.newest().round == 1
    assert "round 3 (no file that can be read)" in keeper.resumed(5).note


# A full disk


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_t7_a_full_disk_leaves_the_checkpoints_as_they_were(fresh, tmp_path, monkeypatch, step):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keeper = fresh()
    save(keeper, 1, 2)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunFolderError, match="room for the checkpoint of round 3, got: No space"):
        save(keeper, 3)
    monkeypatch.undo()
    folder = tmp_path / "checkpoints" / "federated"
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert fresh().newest().round == 2


def test_t7_rows_that_find_no_room_are_one_line(fresh, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RunFolderError, match="room for contribute, got: No space left"):
        collect(fresh(), answer)
    monkeypatch.undo()
    collect(fresh(), answer)
