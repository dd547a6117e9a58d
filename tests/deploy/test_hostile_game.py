"""A federated game over a real SuperLink in which one agent is hostile: T19, T22, T27, T28."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from backfire.deployment import superlink
from backfire.deployment.play_mode import PlayMode
from backfire.playing import play
from backfire.runtimes.flower.private import stamp_message_id
from backfire.runtimes.flower.superlink import PIECES
from backfire.runtimes.grpc.server import ECHO
from backfire.runtimes.packed_arrays import KIND, NAME
from hostile_agents import HostileAgent, resident
from learning.wire import RECORD, pack
from scenarios.loader import parse
from small_deployments import deployed

ROOT = Path(__file__).parents[2]
MIB = 2**20
DEADLINE = 20.0
SCENARIO = {
    "name": "hostile",
    "game": "federated",
    "data": {"kind": "synthetic", "classes": 4, "height": 8, "width": 8, "channels": 1,
             "train_per_class": 60, "test_per_class": 10},
    "model": {"kind": "softmax"},
    "training": {"batch_size": 16},
    "federation": {"rounds": 7, "local_epochs": 1, "quorum": 0.5},
    "agents": [{"name": name, "behaviour": {"kind": "benign"}}
               for name in ("alice", "bob", "mallory")],
    "defenders": {"none": []},
    "referee": {"attacker_free": False, "alone": 0},
    "deadline": DEADLINE,
    "joining": 120,
}  # fmt: skip


class Mallory:
    """Answers each request in the way of a script, as a process of its own would."""

    def __init__(self, deployment):
        self.agent = HostileAgent.of(deployment, "mallory")
        self.node = Node(node_id=self.agent.activate())
        self.stop, self.updates, self.nonces, self.told = threading.Event(), 0, [], {}
        self.failed = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def close(self):
        self.stop.set()
        self.thread.join()
        self.agent.close()

    def _run(self):
        beat = SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=30)
        while not self.stop.wait(0.05):
            try:
                self.agent.stub.SendNodeHeartbeat(beat)
                there = self.agent.stub.PullMessages(PullMessagesRequest(node=self.node))
                for proto, tree in zip(
                    there.messages_list, there.message_object_trees, strict=True
                ):
                    self._answer(self._whole(message_from_proto(proto), tree))
            except Exception as error:
                self.failed.append(error)

    def _whole(self, message, tree):
        pull = {"node": self.node, "run_id": message.metadata.run_id}
        names, stack = [], [tree]
        while stack:
            names.append((part := stack.pop()).object_id)
            stack += part.children
        parts = {}
        for name in dict.fromkeys(names):
            while not (
                got := self.agent.stub.PullObject(PullObjectRequest(**pull, object_id=name))
            ).object_available:
                time.sleep(0.02)
            parts[name] = got.object_content
        message_id = message.metadata.message_id
        whole = inflate_object_from_contents(message_id, parts)
        stamp_message_id(whole, message_id)
        self.agent.stub.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(**pull, message_object_id=message_id)
        )
        return whole

    def _answer(self, request):
        if request.metadata.message_type != "train.update":
            return self.push(Message(Error(2, "no"), reply_to=request))
        self.updates += 1
        self.nonces.append(dict(request.content.config_records[ECHO])["nonce"])
        script = (self.slow, self.many, self.stale, self.large, self.anothers,
                  self.bundle, self.twice)  # fmt: skip
        return script[self.updates - 1](request)

    def push(self, reply, tree=None, pieces=True):
        stamp_message_id(reply, reply.object_id)
        started = time.monotonic()
        done = self.agent.stub.PushMessages(
            PushMessagesRequest(
                node=self.node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply) if tree is None else tree],
                clientapp_runtime_list=[0.0],
            )
        )
        self.told[self.updates] = time.monotonic() - started
        parts = get_all_nested_objects(reply) if pieces else {}
        for name in done.objects_to_push if pieces else ():
            self.agent.stub.PushObject(
                PushObjectRequest(
                    node=self.node, run_id=reply.metadata.run_id, object_id=name,
                    object_content=parts[name].deflate(), session_id=done.session_id,
                )
            )  # fmt: skip

    def reply(self, request, nonce, arrays=None):
        content = pack({"x": np.zeros(3, np.float32)} if arrays is None else arrays)
        content[ECHO] = ConfigRecord({"nonce": nonce})
        return Message(content, reply_to=request)

    def slow(self, request):
        """Announce a reply, and send none of its pieces."""
        self.push(self.reply(request, self.nonces[-1]), pieces=False)

    def many(self, request):
        """Announce as many pieces as the SuperLink takes."""
        reply = self.reply(request, self.nonces[-1])
        tree = get_object_tree(reply)
        left = PIECES - len(get_all_nested_objects(reply))
        tree.children[0].children.extend(
            ObjectTree(object_id=hashlib.sha256(str(n).encode()).hexdigest()) for n in range(left)
        )
        self.push(reply, tree, pieces=False)

    def stale(self, request):
        """Answer with the nonce of the round before."""
        self.push(self.reply(request, self.nonces[-2]))

    def large(self, request):
        """Send 90 MiB."""
        rng = np.random.default_rng(0)
        arrays = {"x": rng.random(90 * MIB // 4, np.float32)}
        with suppress(grpc.RpcError):  # the table says no in the middle of it
            self.push(self.reply(request, self.nonces[-1], arrays))

    def anothers(self, request):
        """Answer in the name of the server, and be refused by the SuperLink."""
        reply = self.reply(request, self.nonces[-1])
        reply.metadata.__dict__["_src_node_id"] = 1
        self.push(reply)

    def bundle(self, request):
        """Send a bundle of arrays that says its header is longer than there are bytes for."""
        reply = self.reply(request, self.nonces[-1])
        data = (5000).to_bytes(8, "little") + bytes(100)
        reply.content[RECORD] = ArrayRecord({NAME: Array("uint8", (len(data),), KIND, data)})
        self.push(reply)

    def twice(self, request):
        """Answer with nonsense, and then once more."""
        self.push(self.reply(request, self.nonces[-1]))
        self.push(self.reply(request, self.nonces[-1], {"y": np.ones(3, np.float32)}))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("game") / "table"
    with deployed(folder, play=PlayMode.SCENARIO, hosts=["127.0.0.1"]) as made:
        yield made


@pytest.fixture
def honest(table):
    """Start alice and bob as their owners do."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "backfire", "agent", "start", str(table.kits / name)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name in ("alice", "bob")
    ]  # fmt: skip
    yield started
    for process in started:
        process.kill()
        process.wait()


class Without:
    """A grid on which mallory hears nothing."""

    def __init__(self, grid):
        self._grid = grid

    def __getattr__(self, name):
        return getattr(self._grid, name)

    def push_messages(self, messages):
        node = next(node.node_id for node in self._grid.get_nodes() if node.name == "mallory")
        messages = list(messages)
        ids = list(self._grid.push_messages(messages))
        for message_id, message in zip(ids, messages, strict=True):
            if message.metadata.dst_node_id == node:
                self._grid._sent.pop(message_id)
        return ids


def model_of(played):
    return hashlib.sha256((played.folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.deploy
def test_t19_t22_t27_t28_whatever_mallory_sends_the_others_play_the_game_without_her(
    table, honest, tmp_path
):
    pid = superlink.running(table).pid
    mallory = Mallory(table)
    try:
        before = resident(pid)
        scenario = parse(json.dumps(SCENARIO), "test")
        played = play(scenario, runtime="grpc", connection=table.folder, out=tmp_path / "grpc")
        grown = resident(pid) - before
    finally:
        mallory.close()
    result = played.result
    assert [entry.admitted for entry in result.rounds["none"]] == [("alice", "bob")] * 7
    said = [(e.code, e.message) for e in result.quarantined if e.stage == "update"]
    codes = [code for code, _ in said]
    assert codes[:6] == ["missing", "size", "stale", "size", "missing", "header"], said
    assert codes[6] == "keys", said
    assert {entry.agent for entry in result.quarantined} == {"mallory"}
    refused = [e.code() for e in mallory.failed if isinstance(e, grpc.RpcError)]
    assert grpc.StatusCode.INVALID_ARGUMENT in refused  # in the server's name
    quick = json.dumps(SCENARIO | {"deadline": 0.2})
    alone = play(parse(quick, "test"), out=tmp_path / "local", wrap=Without)
    assert model_of(played) == model_of(alone)
    assert grown < 256 * MIB, f"{grown / MIB:.0f} MiB"
    assert "locked" not in superlink.log_file(table).read_text()
