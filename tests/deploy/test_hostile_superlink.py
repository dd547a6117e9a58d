"""Hostile agents at a real SuperLink: identity (T20, T21, T30, T31), sizes (T27), ports (T29)."""

import datetime as dt
import socket
import ssl
import threading

import grpc
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node

from backfire.deployment import pki, superlink
from backfire.runtimes.flower.chunked_messages import PIECE_BYTES
from backfire.runtimes.flower.superlink import KEY_IN_USE, MESSAGE_BYTES, PIECES, UNKNOWN_KEY
from backfire.runtimes.grpc import probe
from hostile_agents import HostileAgent, closing, code, kept, resident
from small_deployments import deployed

MIB = 2**20
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "table"
    with deployed(folder, agents=["anna", "ben", "carl"]) as made:
        yield made


@pytest.fixture
def stranger(table):
    with closing(HostileAgent(table.fleet_here, table.ca.read_bytes())) as agent:
        yield agent


@pytest.fixture
def anna(table):
    with closing(HostileAgent.of(table, "anna")) as agent:
        yield agent


def test_t21_fifty_fresh_keys_are_refused(table):
    before = kept(table)
    for _ in range(50):
        with closing(HostileAgent(table.fleet_here, table.ca.read_bytes())) as agent:
            with pytest.raises(grpc.RpcError) as refused:
                agent.activate()
            assert code(refused) == (grpc.StatusCode.FAILED_PRECONDITION, UNKNOWN_KEY)
            with pytest.raises(grpc.RpcError):
                agent.stub.RegisterNode(RegisterNodeFleetRequest(public_key=agent.public))
    assert kept(table) == before


def test_t20_a_key_is_one_agent_in_one_process(table):
    with closing(HostileAgent.of(table, "anna"), HostileAgent.of(table, "anna")) as (first, second):
        first.activate()
        before = kept(table)
        with pytest.raises(grpc.RpcError) as refused:
            second.activate()
        assert code(refused) == (grpc.StatusCode.FAILED_PRECONDITION, KEY_IN_USE)
        assert kept(table) == before
        beat = SendNodeHeartbeatRequest(node=Node(node_id=first.node_id), heartbeat_interval=30)
        assert first.stub.SendNodeHeartbeat(beat).success


def test_t20_an_agent_is_not_connected_by_whoever_knows_its_public_key(table, anna, stranger):
    ben = HostileAgent.of(table, "ben")
    ben.channel.close()
    before = kept(table)
    for other in (anna, stranger):
        with pytest.raises(grpc.RpcError) as refused:
            other.activate(ben.public)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert kept(table) == before


def pushed(agent, node_id, metadata, trees=None):
    tree = ObjectTree(object_id="f" * 64)
    return agent.stub.PushMessages(
        PushMessagesRequest(
            node=Node(node_id=node_id),
            messages_list=[Message(metadata=metadata)],
            message_object_trees=trees or [tree],
        )
    )


def test_t20_nobody_speaks_in_anothers_name(table, anna):
    """As ben, as the server to ben, and with ben's number as its own."""
    with closing(HostileAgent.of(table, "ben")) as ben:
        ben.activate()
        anna.activate()
        before = kept(table)
        told = {"run_id": 1, "message_id": "f" * 64, "ttl": 60.0, "message_type": "query.reveal"}
        as_ben = Metadata(
            **told, src_node_id=ben.node_id, dst_node_id=1, reply_to_message_id="a" * 64
        )
        as_server = Metadata(**told, src_node_id=1, dst_node_id=ben.node_id)
        unasked = Metadata(**told, src_node_id=anna.node_id, dst_node_id=1)
        for metadata in (as_ben, as_server, unasked):
            with pytest.raises(grpc.RpcError) as refused:
                pushed(anna, anna.node_id, metadata)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        for call, request in (
            (anna.stub.PullMessages, PullMessagesRequest(node=Node(node_id=ben.node_id))),
            (
                anna.stub.PushMessages,
                PushMessagesRequest(
                    node=Node(node_id=ben.node_id),
                    messages_list=[Message(metadata=as_ben)],
                    message_object_trees=[ObjectTree(object_id="f" * 64)],
                ),
            ),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(request)
            assert code(refused) == (UNAUTHENTICATED, "Invalid node ID")
        assert kept(table) == before


def test_t27_a_large_request_is_refused_by_its_length(table, anna, stranger):
    """300 MiB from a key that nobody knows, and from one that is known."""
    pid = superlink.running(table).pid
    anna.activate()
    before, state = resident(pid), kept(table)
    for agent, node_id in ((stranger, 5), (anna, anna.node_id)):
        request = PushObjectRequest(
            node=Node(node_id=node_id), run_id=1, object_id="a" * 64,
            object_content=bytes(300 * MIB), session_id="s",
        )  # fmt: skip
        with pytest.raises(grpc.RpcError) as refused:
            agent.stub.PushObject(request)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    grown = resident(pid) - before
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"
    assert kept(table) == state


def test_t27_a_compressed_bomb_is_refused(table, stranger):
    """300 MiB of zeros are a third of a MiB on the wire."""
    pid = superlink.running(table).pid
    before = resident(pid)
    request = PushObjectRequest(
        node=Node(node_id=5), run_id=1, object_id="a" * 64, object_content=bytes(300 * MIB)
    )
    with pytest.raises(grpc.RpcError) as refused:
        stranger.stub.PushObject(request, compression=grpc.Compression.Gzip)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert resident(pid) - before < 64 * MIB


def test_t27_more_pieces_than_can_be_kept_are_refused_before_the_database(table, anna):
    anna.activate()
    before = kept(table)
    told = Metadata(
        run_id=1, message_id="f" * 64, src_node_id=anna.node_id, dst_node_id=1, ttl=60.0,
        message_type="query.contribute", reply_to_message_id="a" * 64,
    )  # fmt: skip
    many = ObjectTree(
        object_id="f" * 64, children=[ObjectTree(object_id=f"{n:064x}") for n in range(PIECES)]
    )
    with pytest.raises(grpc.RpcError) as refused:
        pushed(anna, anna.node_id, told, [many])
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(PIECES) in refused.value.details()
    with pytest.raises(grpc.RpcError) as refused:
        pushed(anna, anna.node_id, told, [many, many])
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert kept(table) == before


def test_t27_what_the_superlink_takes_the_table_takes():
    assert MESSAGE_BYTES <= PIECE_BYTES


def signed(agent, when, key=None):
    stamp = when if isinstance(when, str) else when.isoformat()
    signature = (key or agent.key).sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))
    return (
        (PUBLIC_KEY_HEADER, agent.public),
        (TIMESTAMP_HEADER, stamp),
        (SIGNATURE_HEADER, signature),
    )


def test_t31_a_request_without_a_good_signature_is_refused(table, anna):
    """The one that is good is let through to the next check, so that nothing else refuses."""
    now = dt.datetime.now(dt.UTC)
    good = signed(anna, now)
    key, stamp, signature = good
    other = ec.generate_private_key(ec.SECP384R1())
    bad = {
        "none": (),
        "no signature": (key, stamp),
        "no key": (stamp, signature),
        "of another": signed(anna, now, other),
        "garbage": (key, stamp, (SIGNATURE_HEADER, b"\0" * 40)),
        "another time": (key, (TIMESTAMP_HEADER, "2020-01-01T00:00:00+00:00"), signature),
        "too old": signed(anna, now - dt.timedelta(seconds=320)),
        "from the future": signed(anna, now + dt.timedelta(seconds=60)),
        "no time": signed(anna, "yesterday"),
        "no public key": ((PUBLIC_KEY_HEADER, b"junk"), stamp, signature),
    }
    credentials = grpc.ssl_channel_credentials(table.ca.read_bytes())
    before = kept(table)
    with grpc.secure_channel(table.fleet_here, credentials) as channel:
        stub = FleetStub(channel)
        version = tuple(_version_metadata(anna))
        for name, metadata in bad.items():
            request = ActivateNodeRequest(public_key=anna.public, heartbeat_interval=30)
            with pytest.raises(grpc.RpcError) as refused:
                stub.ActivateNode(request, metadata=(*version, *metadata), timeout=60)
            status, details = code(refused)
            if name in ("no time", "no public key"):  # Flower raises where it reads them
                assert status == grpc.StatusCode.UNKNOWN, name
            else:
                assert status == UNAUTHENTICATED, name
            assert "Traceback" not in details
            assert ".py" not in details
        assert kept(table) == before
        beat = SendNodeHeartbeatRequest(node=Node(node_id=7), heartbeat_interval=30)
        with pytest.raises(grpc.RpcError) as refused:
            stub.SendNodeHeartbeat(beat, metadata=(*version, *good), timeout=60)
        assert code(refused) == (UNAUTHENTICATED, "Invalid node ID")
    assert kept(table) == before


def _version_metadata(agent):
    from flwr.supercore.dependencies.runtime_version import RuntimeVersionMetadata

    return RuntimeVersionMetadata.from_local_component("SuperNode").append_to_grpc_metadata(None)


def test_t30_a_plaintext_client_is_refused(table, anna):
    before = kept(table)
    with grpc.insecure_channel(table.fleet_here) as channel:
        request = ActivateNodeRequest(public_key=anna.public, heartbeat_interval=30)
        with pytest.raises(grpc.RpcError) as refused:
            FleetStub(channel).ActivateNode(request, timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert kept(table) == before


@pytest.mark.parametrize("port", ["fleet_here", "control"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_t30_old_tls_is_refused(table, port, version):
    host, number = probe.split(getattr(table, port))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(table.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((host, number), 10) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname=host)


def test_t30_a_server_of_another_authority_is_not_believed(table):
    other = pki.authority("other", 9).certificate_pem()
    agent = HostileAgent(table.fleet_here, other)
    with closing(agent), pytest.raises(grpc.RpcError) as refused:
        agent.activate()
    assert "CERTIFICATE_VERIFY_FAILED" in refused.value.details()


def test_t29_half_open_connections_hold_nobody_up(table, anna):
    """200 at each port: connected and silent, half a TLS hello, a request that never ends."""
    pid = superlink.running(table).pid
    before = resident(pid)
    begun = (b"", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01")
    held = []
    try:
        for address in (table.fleet_here, table.control):
            for number in range(200):
                link = socket.create_connection(probe.split(address), 10)
                held.append(link)
                link.sendall(begun[number % 3])
        context = ssl.create_default_context(cafile=str(table.ca))
        for _ in range(20):
            host, port = probe.split(table.control)
            link = context.wrap_socket(
                socket.create_connection((host, port), 10), server_hostname=host
            )
            held.append(link)
            link.sendall(b"POST /v1/runtime/pull-messages HTTP/1.1\r\nContent-Length: 99999\r\n")
        anna.activate()
        beat = SendNodeHeartbeatRequest(node=Node(node_id=anna.node_id), heartbeat_interval=30)
        done = []
        calls = [
            threading.Thread(target=lambda: done.append(anna.stub.SendNodeHeartbeat(beat).success))
            for _ in range(20)
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join(60)
        assert done == [True] * 20
        assert probe.healthy(table.control, table.ca)
        assert resident(pid) - before < 64 * MIB
    finally:
        for link in held:
            link.close()
