"""What the owner of an agent is told that a server does not let in (T20, T21, T30, T31, T32)."""

import datetime as dt
import io
import signal
import threading
import zipfile
from concurrent import futures

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.deployment import pki
from backfire.deployment.operations import remove, up
from backfire.runtimes.flower import client_api as flower_fleet
from backfire.runtimes.flower import refusals
from backfire.runtimes.flower import superlink as flower_superlink
from backfire.runtimes.flower.server_api import FleetError
from backfire.runtimes.grpc import agent as grpc_agent
from hostile_agents import HostileAgent, closing, kept
from small_deployments import deployed, free_ports

SECONDS = 90


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity") / "table"
    with deployed(folder, agents=["anna", "ben"]) as made:
        yield made


@pytest.fixture
def start():
    """Start an agent as its owner does, in this process; return its exit code and its words."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def start(kit, wait=0.0):
        done = CliRunner().invoke(app, ["agent", "start", str(kit), f"--wait={wait}"])
        return done.exit_code, done.stderr

    yield start
    for number, handler in before.items():
        signal.signal(number, handler)


def kit_of(table, folder, name="anna", **changes):
    """Return a copy of a kit, ready to play, with some of its files or its address changed."""
    folder.mkdir()
    server = changes.pop("server", table.fleet_here)
    (folder / "agent.yaml").write_text(f'agent: {name}\nserver: "{server}"\nplay: scenario\n')
    for file in ("key", "ca.crt"):
        content = changes.get(file, (table.kits / name / file).read_bytes())
        if content is not None:
            (folder / file).write_bytes(content)
    return folder


def expired_server(ca, names):
    """Return a certificate that the authority has signed for days that are past, and its key."""
    good = pki.server(ca, names, 9)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.certificate.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(good.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=9))
        .not_valid_after(now - dt.timedelta(days=1))
    )
    for extension in good.certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return pki.Signed(builder.sign(ca.key, hashes.SHA256()), good.key)


@pytest.fixture
def impostor(table):
    """Start a gRPC server with some certificate; return its port."""
    servers = []

    def start(signed):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        pair = (signed.key_pem(), signed.certificate_pem())
        credentials = grpc.ssl_server_credentials([pair])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        server.stop(None).wait(30)


def test_t20_t21_t30_who_is_not_let_in_is_told_why_in_one_line_and_nothing_changes(
    table, tmp_path, start, impostor
):
    """T20, T21, T30, T31: at the agent, exit code 3."""
    ca = pki.read_authority(table)
    old = impostor(expired_server(ca, ["127.0.0.1"]))
    elsewhere = impostor(pki.server(ca, ["elsewhere.example.org"], 9))
    other = pki.authority("other", 9)
    fresh, _ = pki.agent_key()
    control = table.control
    nobody = free_ports(1)[0]
    stale_ca = _expired_authority().certificate_pem()
    kits = {
        "unknown key": ({"key": fresh}, "does not know this agent's key"),
        "no key": ({"key": None}, "expected the agent's private key"),
        "no key in it": ({"key": b"junk"}, "got another kind of file"),
        "wrong CA": ({"ca.crt": other.certificate_pem()}, "not signed by this kit's ca.crt"),
        "no CA": ({"ca.crt": None}, "expected the certificate that the kit came with"),
        "no CA in it": ({"ca.crt": b"junk"}, "got another kind of file"),
        "an expired CA": ({"ca.crt": stale_ca}, "got one that has expired"),
        "expired": ({"server": f"127.0.0.1:{old}"}, "has expired: its operator runs"),
        "other name": ({"server": f"127.0.0.1:{elsewhere}"}, "is not for the name 127.0.0.1"),
        "not the Fleet port": ({"server": control}, "is the port right?"),
        "nobody there": ({"server": f"127.0.0.1:{nobody}"}, "nobody listens at"),
    }
    before = kept(table)
    for case, (changes, meaning) in kits.items():
        code, told = start(kit_of(table, tmp_path / case, **dict(changes)))
        assert code == 3, (case, told)
        assert len(told.splitlines()) == 1, (case, told)
        assert told.startswith("error: "), (case, told)
        assert meaning in told, (case, told)
        assert "Traceback" not in told
        assert "flwr" not in told, (case, told)
    assert kept(table) == before


def _expired_authority():
    made = pki.authority("old", 9)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(made.certificate.subject)
        .public_key(made.key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=9))
        .not_valid_after(now - dt.timedelta(days=1))
    )
    return pki.Signed(builder.sign(made.key, hashes.SHA256()), made.key)


def test_t20_a_second_process_with_the_same_key_is_refused_and_the_first_goes_on(
    table, tmp_path, start
):
    with closing(HostileAgent.of(table, "anna")) as first:
        first.activate()
        before = kept(table)
        code, told = start(kit_of(table, tmp_path / "second"))
        assert code == 3
        assert "another process of this agent" in told
        assert len(told.splitlines()) == 1
        assert kept(table) == before
        beat = SendNodeHeartbeatRequest(node=Node(node_id=first.node_id), heartbeat_interval=30)
        assert first.stub.SendNodeHeartbeat(beat).success


def test_an_agent_that_comes_while_the_last_one_still_counts_waits_for_it(table, tmp_path):
    """As after kill -9: it tells why it waits, and is connected as soon as the key is free."""
    kit, told, stop = kit_of(table, tmp_path / "kit"), [], threading.Event()
    seat = grpc_agent.ConnectionSettings(
        "anna", table.fleet_here, kit / "key", kit / "ca.crt", 2**20
    )
    with closing(HostileAgent.of(table, "anna")) as first:
        first.activate()

        def tell(line):
            told.append(line)
            if "another process" in line:
                first.close()
            elif "connected" in line:
                stop.set()

        grpc_agent.serve(seat, lambda *_: None, tell, stop, SECONDS)
    assert "still trying" in told[0]
    assert told[1] == f"anna is connected to {table.fleet_here}"


def test_a_revoked_agent_ends_and_says_so(table, tmp_path):
    kit, told, removed = kit_of(table, tmp_path / "kit", "ben"), [], threading.Event()
    seat = grpc_agent.ConnectionSettings(
        "ben", table.fleet_here, kit / "key", kit / "ca.crt", 2**20
    )
    stop = threading.Event()

    def tell(line):
        told.append(line)
        threading.Thread(target=revoke).start()

    def revoke():
        remove(table.folder, "ben")
        up(table.folder)
        removed.set()

    try:
        with pytest.raises(FleetError, match="no longer accepts this agent's key"):
            grpc_agent.serve(seat, lambda *_: None, tell, stop, SECONDS)
    finally:
        removed.wait(SECONDS)
    assert told == [f"ben is connected to {table.fleet_here}"]


def test_a_failed_connection_does_not_end_the_process(tmp_path, table):
    """Flower's own way is to end it, by force after five seconds."""
    kit = kit_of(table, tmp_path / "kit", key=pki.agent_key()[0])
    seat = grpc_agent.ConnectionSettings(
        "anna", table.fleet_here, kit / "key", kit / "ca.crt", 2**20
    )
    threads = {thread.name for thread in threading.enumerate()}
    with pytest.raises(FleetError, match="does not know"):
        grpc_agent.serve(seat, lambda *_: None, lambda _: None, threading.Event(), 0.0)
    left = {thread.name for thread in threading.enumerate()} - threads
    assert not [name for name in left if "force" in name or "exit" in name]


def test_what_the_superlink_says_is_what_the_agent_knows():
    assert flower_superlink.UNKNOWN_KEY == refusals.UNKNOWN_KEY
    assert flower_superlink.KEY_IN_USE == refusals.KEY_IN_USE


@pytest.mark.parametrize(
    ("told", "meaning"),
    [
        ("[code: 2004] Failed to activate SuperNode.", "does not let this agent's key in"),
        ("Invalid timestamp", "refuses this machine's clock"),
        ("Invalid node ID", "no longer accepts"),
        ("DNS resolution failed for x:1", "no machine is known here by the name table.example"),
        ("ipv4:1.2.3.4:5: Connection timed out (110)", "does a firewall drop it?"),
        ("certificate is not yet valid", "clock is wrong"),
        ("something\nnew \x1b[1m", "failed: something new \\x1b[1m"),
        ("", "failed: no reason given"),
    ],
)
def test_every_refusal_has_a_sentence(told, meaning):
    line = refusals.explained(told, "table.example:9443")
    assert meaning in line
    assert line.isprintable()


def test_settings_of_a_game_are_read_and_nothing_else(tmp_path):
    """A hostile server's archive: no bomb is unpacked, and whatever it holds, one line comes."""

    def archive(text, name="pyproject.toml"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(name, text)
        return out.getvalue()

    good = b'[tool.flwr.app.config]\nscenario = "x"\n'
    assert flower_fleet.settings_of(archive(good)) == {"scenario": "x"}
    bomb = archive(bytes(200 * 2**20))
    assert len(bomb) < 2**20
    for bad in (
        bomb,
        b"junk",
        archive(good, "other.toml"),
        archive(b"\xff"),
        archive(b"tool = 1"),
        archive(b"x = " + b"[" * 10_000),
        archive(b"[tool.flwr.app]\nconfig = 3"),
    ):
        with pytest.raises(ValueError):
            flower_fleet.settings_of(bad)
