"""One holder at a time, in one process and across processes; a dead one holds nothing (T10)."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backfire.deployment import superlink
from backfire.errors import DeployError
from backfire.runtimes.grpc.held_kit import PlaceTaken, place
from server.store import lock
from server.store.lock import Lock, Locked, locked_now


def opened(path):
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_locked_once_and_free_when_it_is_closed(tmp_path):
    first, second = opened(tmp_path / "x"), opened(tmp_path / "x")
    assert locked_now(first)
    assert not locked_now(second)
    os.close(first)
    assert locked_now(second)
    os.close(second)


def test_who_inherits_the_open_file_holds_the_lock_until_it_is_killed(tmp_path):
    """So a SuperLink keeps its deployment's lock when the command that started it has ended."""
    mine, other = opened(tmp_path / "x"), opened(tmp_path / "x")
    assert locked_now(mine)
    waits = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=(mine,),
    )
    os.close(mine)
    assert not locked_now(other)
    waits.kill()
    waits.communicate()
    assert locked_now(other)
    os.close(other)


def test_a_folder_is_refused_with_its_holder_and_no_file_stays_open(tmp_path):
    held = Lock.take(tmp_path)
    before = open_files()
    for _ in range(3):
        with pytest.raises(Locked) as refusal:
            Lock.take(tmp_path)
        assert refusal.value.pid == str(os.getpid())
    assert (tmp_path / lock.NAME).read_text() == f"{os.getpid()}\n"  # as its holder wrote it
    assert open_files() == before
    held.release()
    assert list(tmp_path.iterdir()) == []
    Lock.take(tmp_path).release()


@pytest.mark.parametrize("text", ["", "not a pid", "\xff\xfe"])
def test_a_holder_that_wrote_no_pid_is_unknown(tmp_path, text):
    path = tmp_path / lock.NAME
    path.write_bytes(text.encode("latin-1"))
    handle = opened(path)
    assert locked_now(handle)
    with pytest.raises(Locked) as refusal:
        Lock.take(tmp_path)
    assert refusal.value.pid == "unknown"
    os.close(handle)


def test_a_kit_is_held_by_one_process(tmp_path):
    taken = pytest.raises(PlaceTaken, match="another process plays with the kit")
    with place(tmp_path, "host:1"), taken:
        place(tmp_path, "host:1").__enter__()
    with place(tmp_path, "host:1") as again:
        assert again.session() is None


class Deployed:
    def __init__(self, state):
        self.state = state


def test_a_file_system_that_cannot_lock_is_named_and_nothing_is_taken(tmp_path, monkeypatch):
    def refuse(handle, *, blocking):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "lock_descriptor", refuse)
    before = open_files()
    with pytest.raises(OSError, match="No locks available"):
        Lock.take(tmp_path)
    with pytest.raises(PlaceTaken, match="with locks, got: No locks available"):
        place(tmp_path, "host:1").__enter__()
    with pytest.raises(DeployError, match="with locks, got: No locks available"):
        superlink.locked(Deployed(tmp_path)).__enter__()
    assert open_files() == before
