"""A real SuperLink on loopback: up, let in, look, change, killed, up again, down."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backfire.deployment import node_registry as roll
from backfire.deployment import pki, superlink
from backfire.deployment.layout import Deployment
from backfire.deployment.operations import add, down, init, remove, status, up, up_in_foreground
from backfire.deployment.play_mode import PlayMode
from backfire.errors import DeployError
from backfire.runtimes.flower.control import control
from backfire.runtimes.grpc import probe
from small_deployments import AGENTS, plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path):
    made = init(tmp_path / "table", plan())
    yield made
    down(made.folder)


def backfire(*args):
    done = subprocess.run(
        [sys.executable, "-m", "backfire", *map(str, args)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def states(made):
    return {agent.name: agent.state for agent in status(made.folder).agents}


def ids(made):
    return {agent.name: agent.node_id for agent in status(made.folder).agents}


def test_up_status_change_down(made, tmp_path):
    done = backfire("deploy", "up", made.folder)
    assert done.returncode == 0, done.stderr
    assert made.fleet in done.stdout
    assert f"--connection {made.folder}" in done.stdout
    found = status(made.folder)
    assert found.well
    assert states(made) == dict.fromkeys(AGENTS, "registered")

    # A second `up` changes nothing, one after a change makes the roll that of deploy.yaml.
    before = ids(made)
    again = up(made.folder)
    assert (again.started, again.added, again.revoked, again.pid) == (False, [], [], found.pid)
    stranger = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = stranger.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with control(made.control, made.ca.read_bytes()) as link:
        link.register(pem, "alice")
    assert status(made.folder).strangers == ["alice"]
    add(made.folder, "carol", None, PlayMode.PRIVATE)
    remove(made.folder, "bob")
    changed = up(made.folder)
    assert (changed.added, sorted(changed.revoked)) == (["carol"], ["alice", "bob"])
    assert states(made) == dict.fromkeys(("alice", "mallory", "carol"), "registered")
    assert ids(made)["alice"] == before["alice"]
    with control(made.control, made.ca.read_bytes()) as link:
        assert {node.name for node in link.nodes() if node.key == pem and node.revoked} == {"alice"}

    # An agent's machine reaches the Fleet port, and only with the right certificate.
    probe.reach(made.fleet_here, made.kits / "alice" / "ca.crt")
    (tmp_path / "other.crt").write_bytes(pki.authority("other", 9).certificate_pem())
    with pytest.raises(DeployError, match="cannot be trusted"):
        probe.reach(made.fleet_here, tmp_path / "other.crt")
    assert not probe.healthy(made.control, tmp_path / "other.crt")

    # What it keeps is for its owner only; it called nobody and said nothing secret.
    for path in made.state.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    secret = (made.kits / "alice" / "key").read_bytes().splitlines()[2]
    assert not any(secret in path.read_bytes() for path in made.state.iterdir())

    done = backfire("deploy", "down", made.folder)
    assert (done.returncode, done.stdout) == (0, "SuperLink: stopped.\n")
    assert not superlink.pid_file(made).exists()
    told = backfire("deploy", "status", made.folder, "--json")
    assert told.returncode == 3
    assert json.loads(told.stdout)["running"] is False


@pytest.mark.deploy
def test_t4_a_killed_superlink_comes_back_with_the_same_agents(made):
    """T4, the operator's half: registrations survive kill -9 in the database."""
    first = up(made.folder)
    before = ids(made)
    os.kill(first.pid, signal.SIGKILL)
    while superlink.running(made):
        time.sleep(0.02)
    assert not status(made.folder).well
    second = up(made.folder)
    assert (second.started, second.added) == (True, [])
    assert ids(made) == before


@pytest.mark.deploy
def test_in_the_foreground_it_ends_with_its_parent(made):
    """What the container runs: log and lifetime are the command's own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backfire", "deploy", "up", str(made.folder), "--foreground"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert "SuperLink started" in process.stdout.readline()
        assert status(made.folder).well
        with pytest.raises(DeployError, match="already"):
            up_in_foreground(made.folder, lambda _: None)
        assert status(made.folder).well
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert superlink.running(made) is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.deploy
def test_in_the_foreground_the_end_of_the_superlink_is_a_failure(made):
    process = subprocess.Popen(
        [sys.executable, "-m", "backfire", "deploy", "up", str(made.folder), "--foreground"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        while not status(made.folder).well:
            assert process.poll() is None
            time.sleep(0.1)
        while status(made.folder).strangers or "missing" in states(made).values():
            time.sleep(0.1)
        superlink.running(made).stop(10)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 3
        assert "the SuperLink ended with code" in told
    finally:
        process.kill()
        process.wait()


@pytest.mark.deploy
def test_a_revoked_key_stays_revoked(made):
    up(made.folder)
    kept = made.public_key("bob").read_bytes()
    remove(made.folder, "bob")
    up(made.folder)
    changed = add(made.folder, "bob", None, PlayMode.PRIVATE)
    changed.public_key("bob").write_bytes(kept)
    with pytest.raises(DeployError, match="the key of bob was revoked"):
        up(made.folder)
    called, _ = roll.call(Deployment.read(made.folder))
    assert {agent.name: agent.state for agent in called}["bob"] == roll.MISSING
