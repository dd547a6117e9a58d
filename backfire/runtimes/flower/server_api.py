"""The server's end of Flower's Runtime API: its part of a run claimed, its grid, HTTPS.

Private names of Flower, checked against 1.39; `flower_fleet` is the agents' end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, cast

import httpx
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PullTaskInputResponse,
    PushTaskOutputRequest,
)
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE, TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
)
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from backfire.runtimes.flower.chunked_messages import (
    PIECE_BYTES,
    Limits,
    Malformed,
    Parcel,
    TooLarge,
    as_sent,
)
from backfire.runtimes.flower.private import NodeInfo, identity
from backfire.runtimes.flower.retry import (
    LinkDown,
    Patience,
    RequestRefused,
    RunLost,
    heartbeat,
    passes,
    plain,
)
from learning.wire import MALFORMED, REFUSED, STALE

_LEFT_OVER = 100
# Seconds that the table waits for a SuperLink that went away, and for one that it has just called.
PATIENCE = 600.0
_CLAIM_PATIENCE = 60.0
_TIMES_PUSHED = 3
# What a reply may have beyond its request; the rows of a pooled game come in messages of 32 MiB.
_REPLY_BYTES = 64 * 2**20
_REPLY_PIECES = 64
_RESPONSE_BYTES = PIECE_BYTES + 4096

__all__ = [
    "FleetError",
    "LinkDown",
    "LinkGrid",
    "NotTaken",
    "RequestRefused",
    "RunLost",
    "claimed_grid",
]


class FleetError(RuntimeError):
    """The server's link cannot be reached, or refuses; one line."""


class Unasked(ValueError):
    """A message answers no request; one line."""


_CODES: dict[type[ValueError], int] = {TooLarge: REFUSED, Malformed: MALFORMED, Unasked: STALE}


class NotTaken(ValueError):
    """A message from the server was not taken; one line.

    Attributes:
        message: The message without its content, which can be answered.
        code: Why, as an error code of a reply.
    """

    def __init__(self, why: TooLarge | Malformed, message: Message) -> None:
        super().__init__(str(why))
        self.message, self.code = message, _CODES[type(why)]


@contextmanager
def claimed_grid(address: str, ca: bytes, run_id: int) -> Iterator[LinkGrid]:
    """Take over the server's part of a run that waits for it, and give it up at the end.

    The run ends as completed, or as failed where the body raises.

    Args:
        address: Host and port of the Runtime API.
        ca: The certificate that the server's must be signed by, PEM.
        run_id: The run.

    Raises:
        FleetError: If another process has claimed the run.
    """
    with plain(address):
        grid, given = _claimed(address, ca, run_id)
    beat = HeartbeatSender(heartbeat(grid.another_client()))
    beat.start()
    status, details = SubStatus.FAILED, "the table ended without a result"
    try:
        with identity(run_id, given.task_id, given.context.node_id):
            yield grid
        status, details = SubStatus.COMPLETED, ""
    except BaseException as error:
        details = f"{type(error).__name__}"
        raise
    finally:
        grid.patience.end()
        beat.stop()
        _end(grid, status, details)


def _claimed(address: str, ca: bytes, run_id: int) -> tuple[LinkGrid, PullTaskInputResponse]:
    """Claim a run; runs that wait before it were left by a server that was killed, and end here."""
    for _ in range(_LEFT_OVER):
        grid = LinkGrid(address, ca, _claim(address, ca))
        given = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        run = run_from_proto(given.run)
        if run.run_id == run_id:
            grid.set_run(run)
            return grid, given
        _end(grid, SubStatus.FAILED, "its server was killed before it began")
    raise FleetError(f"expected fewer than {_LEFT_OVER} runs that wait on this SuperLink, got more")


def _end(grid: LinkGrid, status: str, details: str) -> None:
    grid.patience.end()
    with suppress(httpx.HTTPError):
        output = PushTaskOutputRequest(sub_status=status, details=details)
        grid._runtime_client.PushTaskOutput(output)
    grid.close()


class LinkGrid(HttpGrid):
    """Flower's grid, which takes no reply beyond a size, and waits for none that is slow.

    Calls are tried again while the SuperLink does not answer, up to `PATIENCE` seconds. Asking for
    replies is not: who asks may first want to let agents come back.

    Small arrays travel in bundles, which nobody sees who sends or is handed a message.

    A reply may have as many bytes as its request and 64 MiB, and never more than `most`; twice as
    many pieces as its request has arrays, and one for each of its MiB.

    Attributes:
        most: Largest reply, in bytes; a larger one is answered for by an error.
        patience: How calls are tried again.
    """

    most: int = 2**30

    def __init__(self, address: str, ca: bytes, token: str) -> None:
        super().__init__(address, False, ca, token=token)
        self.patience = Patience(PATIENCE)
        self._retry_invoker = self.patience.invoker
        self._limits: dict[str, Limits] = {}
        self._arriving: dict[str, tuple[Metadata, Parcel]] = {}
        self._sweeper = ThreadPoolExecutor(1, "sweeper")

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; what their replies may be follows from them.

        Raises:
            LinkDown: If the SuperLink stays away.
            RunLost: If it has given up the run.
            RequestRefused: If it does not take them.
        """
        sent = list(messages)
        limits = [_limits(message, self.most) for message in sent]
        with plain(self._addr):
            ids = self._pushed(as_sent(sent))
        names = (message.metadata.message_id for message in sent)
        self._limits.update(zip(names, limits, strict=True))
        return ids

    def _pushed(self, sent: list[Message]) -> list[str]:
        for _ in range(_TIMES_PUSHED - 1):
            # A piece was taken and its receipt was lost: those that are missing are sent again.
            with suppress(ObjectPushError):
                return list(super().push_messages(sent))
        return list(super().push_messages(sent))

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes that are online.

        Raises:
            LinkDown: If the SuperLink stays away.
            RunLost: If it has given up the run.
        """
        with plain(self._addr):
            return super().get_nodes()

    def forget(self, message_id: str) -> None:
        """Let the SuperLink forget a request, which nobody waits for any longer."""
        self._limits.pop(message_id, None)
        self._sweeper.submit(self._confirm, message_id)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there whole, each once.

        What nobody has asked for comes back as an error, unread. A reply of which pieces are still
        under way is returned by a later call that asks for it, or else forgotten.

        Raises:
            LinkDown: If the SuperLink does not answer.
            RunLost: If it has given up the run.
        """
        with plain(self._addr):
            return self._pulled(set(message_ids))

    def _pulled(self, asked: set[str]) -> list[Message]:
        client = self._runtime_client
        # What the SuperLink has told of once is gone there: to ask again would end in an error.
        told_of = {told.reply_to_message_id for told, _ in self._arriving.values()}
        with self.patience.once():
            try:
                there = client.PullMessages(PullAppMessagesRequest(message_ids=asked - told_of))
            except httpx.HTTPError as error:
                if not passes(error):
                    raise
                self.patience.down()
                raise LinkDown(f"the SuperLink at {self._addr} does not answer: {error}") from None
        replies = [
            refused
            for proto, tree in zip(there.messages_list, there.message_object_trees, strict=True)
            if (refused := self._taken(metadata_from_proto(proto.metadata), tree, asked))
        ]
        pull = make_pull_object_fn_protobuf(client.PullObject, self.node, self._run_id)
        for message_id, (told, parcel) in list(self._arriving.items()):
            if told.reply_to_message_id not in asked:
                del self._arriving[message_id]
            elif (reply := self._fetched(told, parcel, pull)) is not None:
                del self._arriving[message_id]
                self._limits.pop(told.reply_to_message_id, None)
                replies.append(reply)
                # To forget a refused one may take long, and keeps more of it from coming.
                self._sweeper.submit(self._confirm, message_id)
        return replies

    @property
    def _run_id(self) -> int:
        return cast(Run, self._run).run_id

    def _taken(self, told: Metadata, tree: Any, asked: set[str]) -> Message | None:  # noqa: ANN401
        """Begin to take a reply; return an error that stands for it where it is not taken."""
        limits = self._limits.get(told.reply_to_message_id)
        try:
            if limits is None or told.reply_to_message_id not in asked:
                raise Unasked("expected a reply to a request of this round, got another message")
            self._arriving[told.message_id] = (told, Parcel(told.message_id, tree, limits))
        except (Unasked, TooLarge) as error:
            self._sweeper.submit(self._confirm, told.message_id)
            return self._refused(told, error)
        return None

    def _fetched(
        self, told: Metadata, parcel: Parcel, pull: Callable[[str], bytes]
    ) -> Message | None:
        """Return a reply or the error that stands for it; None while pieces are under way."""
        try:
            return parcel.open(told) if parcel.fetch(pull) else None
        except (TooLarge, Malformed) as error:
            return self._refused(told, error)

    def _refused(self, told: Metadata, error: ValueError) -> Message:
        metadata = Metadata(
            run_id=self._run_id,
            message_id="",
            src_node_id=self.node.node_id,
            dst_node_id=self.node.node_id,
            message_type=SYSTEM_MESSAGE_TYPE,
            group_id="",
            ttl=0,
            reply_to_message_id=told.reply_to_message_id,
            created_at=told.created_at,
        )
        return make_message(metadata=metadata, error=Error(_CODES[type(error)], str(error)))

    def _confirm(self, message_id: str) -> None:
        """Let the SuperLink forget a message; where it cannot, it does at the end of the run."""
        with suppress(httpx.HTTPError, RunNotRunningException):
            self._runtime_client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self.node, run_id=self._run_id, message_object_id=message_id
                )
            )

    def close(self) -> None:
        """Disconnect."""
        self.patience.end()
        self._sweeper.shutdown(cancel_futures=True)
        super().close()

    def another_client(self) -> RuntimeHttpClient:
        """Return a client of its own for the same run, whose calls are tried once."""
        return RuntimeHttpClient.from_server_address(
            server_address=self._addr,
            insecure=False,
            root_certificates=self._cert,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
                RuntimeTokenHttpInterceptor(token=self._token),
            ],
        )

    def _connect(self) -> None:
        super()._connect()
        hooks = self._runtime_client._client.event_hooks
        self._runtime_client._client.event_hooks = {
            **hooks,
            "response": [*hooks["response"], _bounded],
        }


def _limits(request: Message, most: int) -> Limits:
    records = list(request.content.array_records.values())
    size = sum(record.count_bytes() for record in records)
    arrays = sum(len(record) for record in records)
    size = min(most, size + _REPLY_BYTES)
    return Limits(size, _REPLY_PIECES + 2 * arrays + size // 2**20)


def _bounded(response: httpx.Response) -> None:
    """Refuse a piece of a message by its length, before any of it is read."""
    length = int(response.headers.get("content-length", _RESPONSE_BYTES + 1))
    if response.request.url.path.endswith("/pull-object") and length > _RESPONSE_BYTES:
        raise TooLarge(f"expected pieces of at most {PIECE_BYTES / 2**20:g} MiB, got more")


def _claim(address: str, ca: bytes) -> str:
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=ca,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")],
        retry_invoker=Patience(_CLAIM_PATIENCE).invoker,
    )
    try:
        asked = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        token: str = client.AcquireTask(asked).token
    finally:
        client.close()
    if not token:
        raise FleetError(
            "the run was claimed by another process: end any flower-superexec of this SuperLink"
        )
    return token
