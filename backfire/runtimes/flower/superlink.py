"""Flower's SuperLink as a program, with limits on what one agent may do.

The arguments and all else are those of `flower-superlink`. Flower 1.39 by itself

- takes messages of 2 GiB on the Fleet port, and reads them whole before it looks whose they are:
  600 MiB from a key that nobody has registered cost 2.2 GiB of memory;
- makes several SQL statements for each piece of a message, under the one lock of its database,
  takes any number of pieces, and fails whoever else asks for anything for more than 5 s;
- compares the sender of a request with its key, but not the sender of the message in it; and takes
  messages that answer nothing, so that one agent can speak to another in the server's name;
- marks an agent as connected, and tells its number, to whoever knows its public key.

None of that is possible here. Run by its path, so that it finds Flower wherever it is installed and
nothing else; private names of Flower, checked against 1.39.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import grpc
from flwr.common.constant import PUBLIC_KEY_HEADER
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.server.superlink.fleet.grpc_rere.fleet_servicer import FleetServicer
from flwr.supercore.error import FlowerError

# Arrays travel in chunks of 5 MiB. The largest of torchvision's models have 1900 arrays, and twice
# as many pieces.
MESSAGE_BYTES: Final = 8 * 2**20
PIECES: Final = 5_000
# SQLite's settings. How long one request waits, in ms, while another one holds the database: those
# who ask give it 30 s. Memory for each connection, in KiB, and for the file, in bytes: Flower's 64
# and 256 MiB are filled by large messages and never given back.
_DATABASE: Final = {"busy_timeout": "25000", "cache_size": "-16000", "mmap_size": "67108864"}
# What `agent start` knows these refusals by.
UNKNOWN_KEY: Final = "backfire: this key is not registered"
KEY_IN_USE: Final = "backfire: another process is connected with this key"

__all__ = ["KEY_IN_USE", "MESSAGE_BYTES", "PIECES", "UNKNOWN_KEY", "GuardedFleet"]


class GuardedFleet(FleetServicer):
    """Flower's Fleet API, where a key stands for one agent in one process."""

    def ActivateNode(  # noqa: N802 - Flower's name
        self, request: ActivateNodeRequest, context: grpc.ServicerContext
    ) -> ActivateNodeResponse:
        """Let an agent in under the key that it has signed with."""
        if request.public_key != dict(context.invocation_metadata()).get(PUBLIC_KEY_HEADER):
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "backfire: not the key of this agent")
        if self.state_factory.state().get_node_id_by_public_key(request.public_key) is None:
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, UNKNOWN_KEY)
        try:
            return super().ActivateNode(request, context)
        except FlowerError:
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, KEY_IN_USE)

    def PushMessages(  # noqa: N802
        self, request: PushMessagesRequest, context: grpc.ServicerContext
    ) -> PushMessagesResponse:
        """Take one reply, in the agent's own name, of a number of pieces that can be kept."""
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "backfire: expected one message")
        told, tree = request.messages_list[0].metadata, request.message_object_trees[0]
        if told.src_node_id != request.node.node_id or not told.reply_to_message_id:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "backfire: not a reply of this agent")
        if sum(1 for _ in itertools.islice(_pieces(tree), PIECES + 1)) > PIECES:
            limit = f"backfire: expected at most {PIECES} pieces"
            _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, limit)
        return super().PushMessages(request, context)


def _pieces(tree: Any) -> Iterator[None]:  # noqa: ANN401 - a message of Flower's protocol
    yield None
    for child in tree.children:
        yield from _pieces(child)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, line: str) -> NoReturn:
    context.abort(code, line)
    raise AssertionError  # abort raises


def main() -> None:
    """Run the SuperLink."""
    # The package shows a function under the name of this module.
    program = importlib.import_module("flwr.superlink.cli.flower_superlink")
    for name, ours in (
        ("FleetServicer", GuardedFleet),
        ("GRPC_MAX_MESSAGE_LENGTH", MESSAGE_BYTES),
    ):
        if not hasattr(program, name):
            raise SystemExit(f"expected flwr 1.39, whose SuperLink has a {name}")
        setattr(program, name, ours)
    database = importlib.import_module("flwr.supercore.sql_mixin")
    pragmas = dict(database.SQLITE_PRAGMAS) | _DATABASE
    database.SQLITE_PRAGMAS = tuple(pragmas.items())  # type: ignore[attr-defined]
    program.flower_superlink()


if __name__ == "__main__":
    main()
