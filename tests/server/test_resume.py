"""A run that is cut off goes on, and ends with the bytes of one that was never interrupted."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from backfire.playing import PlayError, play, resume
from backfire.runtimes.local import LocalGrid
from scenarios.scenario import Scenario
from server.store import checkpoints
from server.store.run_folder import RunFolder, RunFolderError, counted
from small_games import ROOT, small

AGENTS = [
    {"name": "honest", "count": 3, "behaviour": {"kind": "benign"}},
    {
        "name": "mallory",
        "count": 2,
        "behaviour": {
            "kind": "backdoor",
            "poison_rate": 0.5,
            "trigger": {"kind": "random_badnet", "epsilon": 0.3},
        },
        # Is sent the model of the round before, and cheats twice only.
        "update": {"kind": "neurotoxin"},
        "window": {"first": 2, "times": 2},
    },
]
ROUNDS = 4
# Of rules with a memory of their own, and models that leave agents out.
DEFENDERS = {
    "centred": [{"kind": "centred_clipping"}],
    "foolsgold": [{"kind": "foolsgold"}],
    "indexed": [{"kind": "agent_indexing", "method": "shards", "shards": 2}],
}


def game(**changes) -> Scenario:
    given = {
        "model": {"kind": "mlp", "hidden": [8]},
        "defenders": DEFENDERS,
        "federation": {
            "rounds": ROUNDS,
            "local_epochs": 1,
            "participation": 0.8,
            "server_optimizer": {"kind": "fedadam"},
        },
        "referee": {"alone": 1, "adversarial": []},
    }
    quickstart = ROOT / "scenarios" / "federated" / "quickstart.yaml"
    return small(quickstart, players=AGENTS, **{**given, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return the run folder of the game, played without interruption."""
    return play(game(), out=tmp_path_factory.mktemp("whole")).folder


@pytest.fixture(autouse=True)
def _kept_after_each_round(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", 1.0)


def model(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def result(folder: Path) -> dict:
    found = json.loads((folder / "result.json").read_bytes())
    del found["seconds"]
    return found


def assert_same(folder: Path, whole: Path) -> None:
    assert model(folder) == model(whole)
    assert result(folder) == result(whole)
    assert RunFolder.open(folder).finished()
    assert not (folder / "checkpoints").exists()


def rounds(folder: Path) -> dict[str, list[int]]:
    told: dict[str, list[int]] = {}
    for record in RunFolder(folder).rounds():
        if record["phase"].endswith("round"):
            told.setdefault(record["defender"], []).append(record["round"])
    return told


def resumed_after(folder: Path) -> list[int]:
    records = RunFolder(folder).rounds()
    return [r["round"] for r in records if r["phase"].endswith("resumed") and "round" in r]


class Cut(KeyboardInterrupt):
    pass


def cut(number: int, phase: str = "round"):
    """Return an observer that ends the game in the middle of a round, or in another phase."""

    def observe(event):
        if event.phase == phase and event.done == number:
            raise Cut

    return observe


def play_and_cut(scenario: Scenario, out: Path, number: int, phase: str = "round") -> Path:
    with pytest.raises(Cut) as stopped:
        play(scenario, out=out, progress=cut(number, phase))
    return Path(str(stopped.value))


# T3


# One process imports everything; its children play and are killed, each at a point of its own.
FAULTS = """
    import os, signal, sys
    from pathlib import Path
    import test_resume as this
    import server.games.federated, server.store.atomic as atomic, backfire.playing
    from server.store import checkpoints
    from server.store.checkpoints import Checkpoints

    out, points = Path(sys.argv[1]), sys.argv[2:]
    checkpoints.SHARE = 1.0
    scenario = this.game()

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def before(owner, name, when):
        real = getattr(owner, name)
        def call(*arguments, **named):
            if when(*arguments):
                die()
            return real(*arguments, **named)
        setattr(owner, name, call)

    saving = []

    def save(number):
        real = Checkpoints._write
        def call(self, at, *rest):
            saving[:] = [at] if at == number else []
            return real(self, at, *rest)
        Checkpoints._write = call

    def asks_of(number, messages):
        asks = [m.content.config_records["ask"] for m in messages]
        return any(ask.get("round") == number for ask in asks)

    class Grid(this.LocalGrid):
        point = ""

        def __init__(self, grid):
            self.__dict__.update(grid.__dict__)

        def push_messages(self, messages):
            messages = list(messages)
            if self.point == "before_send" and asks_of(2, messages):
                die()
            return super().push_messages(messages)

        def pull_messages(self, ids):
            if self.point == "while_waiting" and asks_of(2, self._sent.values()):
                die()
            return super().pull_messages(ids)

    def half(handle, data):
        if saving:
            os.write(handle, bytes(data)[: len(data) // 2])
            die()
        return written(handle, data)

    written = atomic._write_all

    def arm(point):
        Grid.point = point
        if point == "after_aggregate":
            real = server.games.federated.play_round
            def aggregate(line, standing, updates, *rest):
                done = real(line, standing, updates, *rest)
                return die() if updates.round == 2 else done
            server.games.federated.play_round = aggregate
        elif point == "during_checkpoint":
            save(2)
            atomic._write_all = half
        elif point == "after_rename":
            save(2)
            before(atomic, "_flush", lambda path: saving and path.is_dir())
        elif point == "after_evaluation":
            before(backfire.playing, "record", lambda *arguments: True)

    for point in points:
        child = os.fork()
        if child == 0:
            try:
                arm(point)
                this.play(scenario, out=out / point, wrap=Grid)
            finally:
                os._exit(1)
        print(point, -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

POINTS = {
    "before_send": 1,
    "while_waiting": 1,
    "after_aggregate": 1,
    "during_checkpoint": 1,
    "after_rename": 2,
    "after_evaluation": ROUNDS,
}


def python(code: str, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        **options,
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("killed")
    done = python(FAULTS, out, *POINTS)
    assert done.stdout.split("\n")[:-1] == [f"{point} 9" for point in POINTS], done.stderr
    return out


@pytest.mark.parametrize("point", POINTS)
def test_t3_a_server_killed_at_any_point_goes_on_to_the_same_bytes(point, killed, whole):
    (folder,) = (killed / point).iterdir()
    assert not (folder / "result.json").exists()
    told = []
    resume(folder, progress=told.append)
    assert_same(folder, whole)
    assert resumed_after(folder) == [POINTS[point]]
    assert [e.note for e in told if e.phase == "resumed"] == [f"after round {POINTS[point]}"]
    assert rounds(folder) == {name: list(range(1, ROUNDS + 1)) for name in DEFENDERS}
    assert not list(folder.rglob("*.tmp"))


# T5


def test_t5_a_game_cut_off_in_every_round_ends_with_the_same_bytes(tmp_path, whole):
    folder = play_and_cut(game(), tmp_path, 1)
    for number in range(2, ROUNDS + 1):
        with pytest.raises(Cut):
            resume(folder, progress=cut(number))
    resume(folder)
    assert_same(folder, whole)
    assert resumed_after(folder) == [0, 1, 2, 3]
    assert rounds(folder) == {name: list(range(1, ROUNDS + 1)) for name in DEFENDERS}
    # The log itself tells all that was played.
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    played = [r["round"] for r in map(json.loads, lines) if r["phase"] == "round"]
    # Each round's first line was written before the cut.
    assert len(played) == ROUNDS * (len(DEFENDERS) + 1)


class Deaf(LocalGrid):
    """A grid whose agents do not answer what they are asked for their rows."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)

    def _answer(self, message):
        assert message.metadata.message_type.split(".")[1] not in ("contribute", "reveal")
        return super()._answer(message)


@pytest.mark.parametrize("kind", ["pooled", "both"])
def test_t5_in_a_pooled_game_no_agent_is_asked_again(kind, tmp_path):
    changes = {"game": kind, "defenders": {"plain": []}}
    if kind == "pooled":
        scenario = small(ROOT / "scenarios" / "quickstart.yaml", defenders={"plain": []},
                         model={"kind": "mlp", "hidden": [8]})  # fmt: skip
        phase, at = "trained", None
    else:
        scenario, phase, at = game(**changes), "federated: round", 3
    straight = play(scenario, out=tmp_path / "whole").folder

    def observe(event):
        if event.phase == phase and at in (None, event.done):
            raise Cut

    with pytest.raises(Cut) as stopped:
        play(scenario, out=tmp_path / "cut", progress=observe)
    folder = Path(str(stopped.value))
    resume(folder, wrap=Deaf)
    assert_same(folder, straight)
    said = [r for r in RunFolder(folder).rounds() if r["phase"].endswith("resumed")]
    assert not any(record.get("asked_again") for record in said)
    assert [record.get("round") for record in said] == [None, 0, *([] if at is None else [2])]


def test_t5_agents_that_had_not_answered_yet_are_asked(tmp_path, whole):
    folder = play_and_cut(game(), tmp_path, 4, "run-time sets")
    resume(folder)
    assert_same(folder, whole)
    asked = [r["asked_again"] for r in RunFolder(folder).rounds() if "asked_again" in r]
    assert asked
    assert asked[0]


class Quiet(LocalGrid):
    """Loses what one agent is asked to train in rounds up to the second."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self._cohort = None

    def _answer(self, message):
        ask = message.content.config_records["ask"]
        if message.metadata.dst_node_id == 2 and ask.get("round", 9) <= 2:
            raise_for = message.content
            del raise_for["arrays"]
        return super()._answer(message)


def test_t5_quarantines_of_the_rounds_before_are_kept(tmp_path):
    scenario = game(defenders={"plain": []})
    straight = play(scenario, out=tmp_path / "whole", wrap=Quiet).folder
    with pytest.raises(Cut) as stopped:
        play(scenario, out=tmp_path / "cut", wrap=Quiet, progress=cut(4))
    folder = Path(str(stopped.value))
    resume(folder)
    assert_same(folder, straight)
    assert {q["message"].split(",")[0] for q in result(folder)["quarantined"]} >= {"round 1"}


# T7


def full(*arguments: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_t7_where_the_disk_is_full_the_run_stops_and_can_be_resumed(tmp_path, whole, monkeypatch):
    written = checkpoints.Checkpoints._write

    def write(self, number, *rest):
        with monkeypatch.context() as patched:
            if number == 3:
                patched.setattr(os, "write", full)
            written(self, number, *rest)

    monkeypatch.setattr(checkpoints.Checkpoints, "_write", write)
    with pytest.raises(RunFolderError, match="checkpoint of round 3, got: No space left"):
        play(game(), out=tmp_path)
    monkeypatch.setattr(checkpoints.Checkpoints, "_write", written)
    (folder,) = tmp_path.iterdir()
    resume(folder)
    assert_same(folder, whole)
    assert resumed_after(folder) == [2]


TMPFS = """
    import ctypes, os, sys
    from pathlib import Path
    place, user, group = Path(sys.argv[1]), os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    NEWNS, NEWUSER = 0x20000, 0x10000000
    try:
        if libc.unshare(NEWNS | NEWUSER):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        if libc.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=1m"):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        print("skip", error)
        sys.exit()
    import test_resume as this
    from server.store import checkpoints
    checkpoints.SHARE = 1.0

    def fill(event):
        if event.phase == "round" and event.done == 2 and event.note == "indexed":
            with (place / "ballast").open("wb", buffering=0) as ballast:
                try:
                    while True:
                        ballast.write(bytes(4096))
                except OSError:
                    pass

    try:
        this.play(this.game(), out=place / "runs", progress=fill)
    except this.RunFolderError as error:
        print(error)
    (place / "ballast").unlink()
    (folder,) = (place / "runs").iterdir()
    kept = sorted(path.name[:12] for path in folder.glob("checkpoints/federated/round-*"))
    print(*kept)
    print(len(list(folder.rglob("*.tmp"))))
    this.resume(folder)
    print(this.model(folder))
"""


def test_t7_a_full_tmpfs_of_one_mebibyte(tmp_path, whole):
    done = python(TMPFS, tmp_path)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("skip"):
        pytest.skip(f"no file system can be mounted here: {done.stdout[5:].strip()}")
    error, kept, left, found = done.stdout.splitlines()
    assert error.endswith("No space left on device")
    assert kept.startswith("round-000001")
    assert left == "0"
    assert found == model(whole)


# T8


TORN = """
    import os, sys
    from pathlib import Path
    import test_checkpoints as this
    from server.store import atomic, checkpoints
    folder = Path(sys.argv[1])

    def keeper():
        return checkpoints.Checkpoints(folder, this.SCENARIO, resuming=True)

    def crash(name, when, half=False):
        real = getattr(os, name)
        def call(*arguments, **named):
            if when(*arguments):
                if half:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os._exit(9)
            return real(*arguments, **named)
        setattr(os, name, call)

    def is_folder(handle):
        return Path(f"/proc/self/fd/{handle}").resolve().is_dir()

    def is_temporary(source, *rest):
        return str(source).endswith(".tmp")

    points = {
        "before the write": lambda: crash("write", lambda *a: True),
        "in the write": lambda: crash("write", lambda *a: True, half=True),
        "before the flush": lambda: crash("fsync", lambda handle: not is_folder(handle)),
        "before the rename": lambda: [crash(how, is_temporary) for how in ("rename", "replace")],
        "before the folder's flush": lambda: crash("fsync", is_folder),
    }
    keeper().keep(this.progress(1), last=True)
    for point, arm in points.items():
        for path in folder.glob("round-000002.*"):
            path.unlink()
        child = os.fork()
        if child == 0:
            arm()
            keeper().keep(this.progress(2), last=True)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = keeper().newest()
        this.assert_equal(found, this.progress(found.round))
        print(point, code, found.round, sep=";")
"""


def test_t8_a_write_torn_at_five_points_leaves_the_old_or_the_new_checkpoint(tmp_path):
    done = python(TORN, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "before the write;9;1",
        "in the write;9;1",
        "before the flush;9;1",
        "before the rename;9;1",
        "before the folder's flush;9;2",
    ]


# T9


def test_t9_a_damaged_checkpoint_is_passed_over_and_that_is_told(tmp_path, whole):
    folder = play_and_cut(game(), tmp_path, 4)
    newest = max((folder / "checkpoints" / "federated").glob("round-*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    told = []
    resume(folder, progress=told.append)
    assert_same(folder, whole)
    (event,) = (e for e in told if e.phase == "resumed")
    assert event.note == "after round 2; damaged: round 3 (changed or cut off)"
    (record,) = (r for r in RunFolder(folder).rounds() if "damaged" in r)
    assert record["round"] == 2
    assert record["damaged"] == ["round 3 (changed or cut off)"]
    assert rounds(folder) == {name: list(range(1, ROUNDS + 1)) for name in DEFENDERS}


# T10


HOLD = """
    import sys
    from pathlib import Path
    from server.store.lock import Lock
    lock = Lock.take(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_t10_a_second_server_on_a_run_folder_is_refused_by_pid(tmp_path):
    folder = play_and_cut(game(), tmp_path, 2)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = []
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=f"process {holder.pid} is playing there"):
            resume(folder, progress=told.append)
        with pytest.raises(RunFolderError, match=f"process {holder.pid} is playing there"):
            play(game(), out=tmp_path, progress=told.append)
    finally:
        holder.kill()
        holder.communicate()
    assert told == []
    assert before.items() <= {p: p.read_bytes() for p in before}.items()


# What can be resumed


def test_a_finished_run_is_not_played_again(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    told = []
    assert resume(whole, progress=told.append).already
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_a_run_killed_before_its_first_checkpoint_begins_at_the_beginning(tmp_path, whole):
    with RunFolder.create(tmp_path, game()) as folder:
        pass
    resume(folder.path)
    assert_same(folder.path, whole)
    assert resumed_after(folder.path) == [0]
    assert folder.environment()["runtime"] == "local"


def test_a_run_whose_scenario_was_changed_is_refused(tmp_path):
    folder = play_and_cut(game(), tmp_path, 3)
    text = (folder / "scenario.yaml").read_text()
    (folder / "scenario.yaml").write_text(text.replace("local_epochs: 1", "local_epochs: 2"))
    with pytest.raises(RunFolderError, match="the scenario was changed"):
        resume(folder)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"there is no scenario\.yaml"):
        resume(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_run_begins_an_unfinished_game_anew(tmp_path, whole):
    folder = play_and_cut(game(), tmp_path, 3)
    assert play(game(), out=tmp_path).folder == folder
    assert_same(folder, whole)
    assert resumed_after(folder) == []


def test_a_runtime_that_is_not_there_is_one_line(tmp_path):
    with RunFolder.create(tmp_path, game()) as folder:
        folder.write_environment("cpu", (), "grpc")
    with pytest.raises(PlayError, match="--connection"):
        resume(folder.path)


def test_lines_after_a_resume_stand_for_those_before():
    def line(phase: str, round: int | None = None, **more):
        return {"phase": phase, **({} if round is None else {"round": round}), **more}

    log = [
        line("admission", try_=1), line("round", 1), line("round", 2, try_=1),
        line("resumed"), line("resumed", 1), line("admission", try_=2), line("round", 2, try_=2),
        line("round", 3, try_=2), line("resumed", 2), line("round", 3, try_=3),
    ]  # fmt: skip
    assert counted(log) == [log[k] for k in (1, 3, 4, 5, 6, 8, 9)]
    assert counted([line("note", n=1), line("note", n=2)]) == [line("note", n=1), line("note", n=2)]
