"""Processes that outlive their command: found again, never confused, ended for certain."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from backfire.deployment import superlink
from backfire.deployment.operations import down, init, status, up
from backfire.deployment.processes import Process
from backfire.errors import DeployError, UsageError
from backfire.runtimes.grpc import probe
from small_deployments import free_ports, plan

STUBBORN = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)"
)


@pytest.fixture
def own(tmp_path):
    return init(tmp_path / "table", plan(agents=["alice"]))


@pytest.fixture
def child():
    """Start a Python process; it is ended with the test."""
    started = []

    def start(code):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_process_is_found_by_its_file(tmp_path, child):
    process = child("import time; time.sleep(60)")
    Process.of(process.pid).write(tmp_path / "pid")
    found = Process.read(tmp_path / "pid")
    assert found.pid == process.pid
    assert found.stop(10)
    assert process.wait(5) == -signal.SIGTERM
    assert Process.read(tmp_path / "pid") is None


def test_a_process_that_does_not_listen_is_killed(child):
    process = child(STUBBORN)
    assert process.stdout.readline() == "ready\n"
    assert not Process.of(process.pid).stop(0.2)
    assert process.wait(5) == -signal.SIGKILL


def test_a_recycled_number_is_never_signalled(own, child):
    """The pid file names a living process that started at another time: a stranger."""
    stranger = child("import time; time.sleep(60)")
    true = Process.of(stranger.pid)
    Process(stranger.pid, true.started + "0").write(superlink.pid_file(own))
    assert superlink.running(own) is None
    assert down(own.folder) == "not running"
    assert stranger.poll() is None
    Process(stranger.pid, true.started + "0")._signal(signal.SIGKILL)
    time.sleep(0.1)
    assert stranger.poll() is None


def test_the_dead_do_not_live(child):
    process = child("")
    handle = os.pidfd_open(process.pid)
    process.stdout.read()
    os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    os.close(handle)
    assert Process.of(process.pid) is None


@pytest.mark.parametrize("content", ["", "12", "{}", '{"pid": -1, "started": "x"}', "\x00", '"x"'])
def test_a_broken_pid_file_names_nobody(own, content):
    superlink.pid_file(own).write_text(content)
    assert superlink.running(own) is None
    assert down(own.folder) == "not running"


@pytest.mark.parametrize("field", ["port", "fleet_port"])
def test_a_taken_port_is_said_with_its_field(own, field):
    """Case port-taken."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", getattr(own.settings, field)))
        held.listen()
        with pytest.raises(DeployError, match=rf"cannot be used: .*as {field} in deploy.yaml"):
            up(own.folder)
    assert superlink.running(own) is None


def test_an_address_of_another_machine_is_said(tmp_path):
    made = init(tmp_path / "table", plan(fleet_host="192.0.2.1"))
    with pytest.raises(DeployError, match=r"192\.0\.2\.1 cannot be used"):
        up(made.folder)


def test_a_locked_database_is_said(own):
    database = sqlite3.connect(own.state / "state.db")
    database.execute("CREATE TABLE x (y)")
    database.commit()
    database.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(DeployError, match="database is locked; is it open elsewhere"):
            up(own.folder)
    finally:
        database.close()


def test_a_broken_database_is_said(own):
    (own.state / "state.db").write_bytes(b"no database at all, whatever its name says" * 100)
    with pytest.raises(DeployError, match="file is not a database"):
        up(own.folder)


def test_a_missing_flower_is_said(own, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DeployError, match=r"flower-superlink is missing .*flwr>=1\.39"):
        up(own.folder)


def test_a_superlink_that_ends_at_once_is_said_and_leaves_nothing(own, monkeypatch):
    bad = [sys.executable, "-c", "import sys; sys.exit('\x1b[91mno such thing\x1b[0m')"]
    monkeypatch.setattr(superlink, "command", lambda _: bad)
    with pytest.raises(DeployError, match=r"ended with code 1 .*\(no such thing\); see .*link.log"):
        up(own.folder)
    assert not superlink.pid_file(own).exists()
    with superlink.locked(own) as lock:
        assert lock is not None


def test_a_superlink_that_never_answers_is_ended(own, monkeypatch):
    code = f"print(__import__('os').getpid(), flush=True)\n{STUBBORN}"
    monkeypatch.setattr(superlink, "command", lambda _: [sys.executable, "-c", code])
    monkeypatch.setattr(superlink, "GRACE", 0.2)
    monkeypatch.setattr(superlink.stop, "__defaults__", (0.2,))
    with pytest.raises(DeployError, match="does not answer at https://"):
        up(own.folder, seconds=1.0)
    pid = int(superlink.log_file(own).read_text().split()[0])
    assert Process.of(pid) is None


def test_one_deployment_has_one_superlink_whatever_the_pid_file_says(own):
    with superlink.locked(own) as lock:
        assert lock is not None
        with pytest.raises(DeployError, match="does not answer"):
            up(own.folder, seconds=0.3)
        with pytest.raises(DeployError, match="runs in a container"):
            down(own.folder)


def test_flowers_settings_of_the_operator_do_not_reach_the_superlink(own, monkeypatch):
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    monkeypatch.setenv("FLWR_DATABASE", "elsewhere")
    told = superlink.environment(own)
    assert told["FLWR_TELEMETRY_ENABLED"] == "0"
    assert told["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert told["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert told["FLWR_HOME"] == str(own.flower)
    assert "FLWR_DATABASE" not in told


def test_the_superlink_is_started_safely(own):
    told = superlink.command(own)
    assert "--insecure" not in told
    assert {"--isolation=process", "--enable-supernode-auth", "--host=127.0.0.1"} <= set(told)


def test_a_deployment_that_is_down(own):
    found = status(own.folder)
    assert (found.well, found.running, found.control, found.fleet) == (False,) * 4
    assert found.certificate == 364


class TestProbe:
    """What an agent's owner is told when the server cannot be reached."""

    def test_nobody_listens(self, own):
        with pytest.raises(DeployError, match="nobody listens there"):
            probe.reach(f"127.0.0.1:{free_ports(1)[0]}", own.ca)

    @pytest.mark.parametrize("address", ["x", "x:", ":1", "x:0", "x:65536", "x:1a", "x:²"])
    def test_no_address(self, own, address):
        with pytest.raises(UsageError, match="expected HOST:PORT"):
            probe.reach(address, own.ca)

    def test_no_certificate(self, own, tmp_path):
        (tmp_path / "x").write_text("nothing")
        for file in (tmp_path / "x", tmp_path / "missing"):
            with pytest.raises(UsageError, match="expected a CA certificate"):
                probe.reach("127.0.0.1:1", file)

    def test_no_tls(self, own):
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer():
                link, _ = server.accept()
                with link:
                    link.recv(1000)
                    link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(DeployError, match="speaks no TLS"):
                probe.reach(f"127.0.0.1:{server.getsockname()[1]}", own.ca)
            thread.join()


def test_the_pid_file_is_json_that_others_cannot_read(own):
    Process.of(os.getpid()).write(superlink.pid_file(own))
    told = json.loads(superlink.pid_file(own).read_text())
    assert told["pid"] == os.getpid()
    assert superlink.pid_file(own).stat().st_mode & 0o077 == 0
