"""An agent's end of Flower's Fleet API: gRPC with TLS and a key, through cuts and restarts.

Flower's own connection waits for ever where a network swallows what is sent, ends the process where
a server says no, and lets nobody in whose last session has not run out (a minute after a crash).
Here every call ends, every failure is an exception, and what an agent knows of its session
outlives the connection.

Private names of Flower, checked against 1.39.
"""

from __future__ import annotations

import io
import time
import tomllib
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app import Message
from flwr.client.grpc_rere_client.connection import grpc_request_response
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    DeactivateNodeResponse,
)
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPushError,
    push_object_contents_from_iterable,
)
from flwr.supercore.retry import RetryInvoker, constant
from flwr.supercore.run import RunNotRunningException
from grpc import Channel, RpcError, StatusCode

from backfire.runtimes.flower.chunked_messages import Limits, Malformed, Parcel, TooLarge, as_sent
from backfire.runtimes.flower.private import stamp_message_id
from backfire.runtimes.flower.refusals import KEY_IN_USE, explained, is_final
from backfire.runtimes.flower.server_api import FleetError, NotTaken

# No message that the SuperLink sends is larger; the scenario in an app's settings is of 1 MiB.
_LARGEST_FROM_SERVER = 16 * 2**20
_SETTINGS_BYTES = 4 * 2**20
# What an agent takes from the server: pieces of a message, and seconds until the last has come.
_PIECES = 100_000
_LONGEST_FETCH = 600.0
_WAIT = 0.05
# Seconds after which an agent that waits for pieces looks whether another message has come, and how
# many unfinished ones it keeps for later.
_LOOK = 0.2
_PUT_OFF = 16
# Seconds that a call may take: one that says something, one that carries a piece of a message (at
# most 5 MiB, so 17 kB/s at least), and the one with which an agent takes its leave.
_CALL: Final = 20.0
_PIECE: Final = 300.0
_LEAVE: Final = 3.0
_CARRIES = frozenset({"PullObject", "PushObject"})
_TIMES_PUSHED = 3
_REFUSALS: Final = (
    StatusCode.UNAUTHENTICATED,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.INVALID_ARGUMENT,
)

__all__ = ["Fleet", "KeyInUse", "LinkLost", "Session", "fleet", "settings_of"]


class LinkLost(FleetError):
    """The server's link does not answer; it may do so later. One line."""


class KeyInUse(FleetError):
    """A session with this key lasts, perhaps that of a process that was killed. One line."""


class _NotLetIn(BaseException):
    """The first call failed. No `Exception`, for which Flower would end the process."""

    def __init__(self, error: RpcError) -> None:
        self.error = error


class _Unheard(RpcError):  # type: ignore[misc]
    """A heartbeat was not heard; Flower's sender tries again, and its thread goes on."""

    def code(self) -> StatusCode:
        """Return that of a connection that is not there."""
        return StatusCode.UNAVAILABLE


@dataclass(frozen=True)
class Received:
    """A message that was handed over, of which pieces may be missing still.

    Attributes:
        message: Its header.
        tree: Its pieces, a message of Flower's protocol.
        until: When nobody waits for its answer any longer; of the monotonic clock.
    """

    message: Message
    tree: Any
    until: float


@dataclass
class Session:
    """What an agent knows that outlives its connection.

    Attributes:
        node_id: Its number at this server; None before it was let in.
        received: The message that is being fetched.
        put_off: Messages that others have overtaken: their pieces did not come.
    """

    node_id: int | None = None
    received: Received | None = None
    put_off: deque[Received] = field(default_factory=lambda: deque(maxlen=_PUT_OFF))


class _Overtaken(Exception):
    """Another message has come while pieces of this one are missing."""

    def __init__(self, by: Received) -> None:
        self.by = by


class Fleet:
    """An agent's connection to the server's link.

    Args:
        primitives: What Flower's connection yields.
        session: What outlives it.
    """

    def __init__(self, primitives: tuple[Any, ...], session: Session) -> None:
        (
            self.node_id,
            self._receive,
            self._send,
            self._get_run,
            self._get_fab,
            self._pull_object,
            self._push_object,
            self._confirm,
        ) = primitives
        self._session = session
        session.node_id = self.node_id
        self._configs: dict[int, Mapping[str, Any]] = {}

    def config(self, run_id: int) -> Mapping[str, Any]:
        """Return a run's settings; nothing else of what comes with a run is looked at."""
        if run_id not in self._configs:
            fab = self._get_fab(self._get_run(run_id).fab_hash, run_id)
            self._configs = {run_id: settings_of(fab.content)}
        return self._configs[run_id]

    def pull(self, most: int) -> Message | None:
        """Return the next message, or None where there is none.

        A message whose pieces cannot be had because the connection breaks is fetched by a later
        call, over this connection or the next.

        Args:
            most: Largest message to take, in bytes.

        Raises:
            NotTaken: If a message is too large, or none that can be read.
            RpcError: If the connection breaks.
        """
        session = self._session
        if session.received is None or time.monotonic() > session.received.until:
            session.received = self._received() or self._put_off()
            if session.received is None:
                return None
        received = session.received
        try:
            whole = self._content(received, most)
        except _Overtaken as overtaken:
            session.put_off.append(received)
            session.received = overtaken.by
            return None
        except (RunNotRunningException, NotTaken) as error:
            session.received = None
            if isinstance(error, NotTaken):
                raise
            return None
        session.received = None
        return whole

    def _received(self) -> Received | None:
        with suppress(RunNotRunningException):
            if (received := self._receive()) is not None:
                message, tree = received
                return Received(message, tree, time.monotonic() + message.metadata.ttl)
        return None

    def _put_off(self) -> Received | None:
        waiting = self._session.put_off
        while waiting:
            if (received := waiting.popleft()).until > time.monotonic():
                return received
        return None

    def _content(self, received: Received, most: int) -> Message:
        """Fetch a message.

        A server that is killed while it sends leaves a message that is never whole; it is known as
        such a minute later. Nothing that the next one sends has to wait for that.
        """
        message, began = received.message, time.monotonic()
        run_id, message_id = message.metadata.run_id, message.metadata.message_id
        pull, look = partial(self._pull_object, run_id), began + _LOOK
        try:
            parcel = Parcel(message_id, received.tree, Limits(most, _PIECES))
            while not parcel.fetch(pull):
                now = time.monotonic()
                if now > began + _LONGEST_FETCH:
                    raise Malformed(f"expected all pieces of a message in {_LONGEST_FETCH:g} s")
                if now > look:
                    look = now + _LOOK
                    if (newer := self._received()) is not None:
                        raise _Overtaken(newer)
                time.sleep(_WAIT)
            whole = parcel.open()
        except (TooLarge, Malformed) as error:
            self._forget(run_id, message_id)
            raise NotTaken(error, message) from None
        self._forget(run_id, message_id)
        return whole

    def _forget(self, run_id: int, message_id: str) -> None:
        """Let the server's link forget a message; if it is not heard, it forgets with the run."""
        with suppress(RpcError, RunNotRunningException):
            self._confirm(run_id, message_id)

    def push(self, reply: Message, seconds: float) -> None:
        """Send a reply; one to a run that has ended is dropped, and so is a second of the same.

        Args:
            reply: What to send; a reply whose sending broke off can be sent again.
            seconds: How long it took to make.

        Raises:
            RpcError: If the connection breaks.
        """
        with suppress(RunNotRunningException), no_object_id_recompute():
            (sent,) = as_sent([reply])
            if not reply.metadata.message_id:
                stamp_message_id(reply, sent.object_id)
            parts = {name: part.deflate() for name, part in get_all_nested_objects(sent).items()}
            for attempt in range(_TIMES_PUSHED):
                wanted, session = self._send(sent, get_object_tree(sent), seconds)
                try:
                    push_object_contents_from_iterable(
                        ((name, parts[name]) for name in wanted),
                        push_object_fn=partial(self._push_object, reply.metadata.run_id, session),
                    )
                except ObjectPushError:  # it was taken, and its receipt was lost on the way
                    if attempt == _TIMES_PUSHED - 1:
                        raise
                else:
                    return


def settings_of(fab: bytes) -> Mapping[str, Any]:
    """Read the settings out of an app's archive, and nothing else of it.

    Raises:
        ValueError: If there are none, or too many of them.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(fab)) as archive, archive.open("pyproject.toml") as file:
            text = file.read(_SETTINGS_BYTES + 1)  # whatever it says of its size
        if len(text) > _SETTINGS_BYTES:
            raise ValueError(f"expected settings of at most {_SETTINGS_BYTES} bytes, got more")
        settings = tomllib.loads(text.decode())["tool"]["flwr"]["app"]["config"]
    except (zipfile.BadZipFile, KeyError, TypeError, zlib.error, RecursionError) as error:
        raise ValueError(f"expected the settings of a game, got {type(error).__name__}") from None
    if not isinstance(settings, dict):
        raise ValueError("expected the settings of a game by name")
    return settings


@contextmanager
def fleet(
    address: str, ca: bytes, key: EllipticCurvePrivateKey, session: Session | None = None
) -> Iterator[Fleet]:
    """Connect an agent to the server's link with TLS and its key.

    The agent takes its leave when the body ends, unless it ends by an error of the connection: then
    the server waits for it, for a minute.

    Args:
        address: Host and port of the Fleet API.
        ca: The certificate that the server's must be signed by, PEM.
        key: The agent's private key.
        session: What the agent knows from an earlier connection; one that is known is let in even
            if the server has not noticed that the earlier one broke.

    Raises:
        LinkLost: If the link cannot be reached.
        KeyInUse: If a session with this key lasts.
        FleetError: If it cannot be trusted, or does not let this key in.
    """
    session = session or Session()
    failed: BaseException | None = None
    leaving = [False]
    try:
        with grpc_request_response(
            address,
            False,
            RetryInvoker(lambda: constant(0.0), RpcError, 1, None, should_giveup=_run_is_over),
            _LARGEST_FROM_SERVER,
            root_certificates=ca,
            authentication_keys=(key, key.public_key()),
            adapter_cls=cast(Any, partial(_Stub, known=session.node_id, leaving=leaving)),
        ) as primitives:
            try:
                yield Fleet(primitives, session)
            except BaseException as error:  # Flower would log it and go on
                failed = error
            leaving[0] = not isinstance(failed, RpcError | LinkLost)
    except _NotLetIn as refusal:
        raise _said(address, refusal.error) from None
    if isinstance(failed, RpcError):
        raise _said(address, failed) from None
    if failed is not None:
        raise failed


class _Stub(FleetStub):
    """Flower's calls, each of which ends; see the module.

    Args:
        channel: The connection.
        known: The agent's number at the server, from an earlier connection.
        leaving: Whether the agent takes its leave at the end; the list's one item.
    """

    def __init__(self, channel: Channel, known: int | None, leaving: list[bool]) -> None:
        super().__init__(channel)
        for name in list(vars(self)):
            seconds = _PIECE if name in _CARRIES else _CALL
            setattr(self, name, partial(getattr(self, name), timeout=seconds))
        self.ActivateNode = partial(_let_in, self.ActivateNode, self.SendNodeHeartbeat, known)
        self.SendNodeHeartbeat = partial(_heard, self.SendNodeHeartbeat)
        self.DeactivateNode = partial(_leave, self.DeactivateNode, leaving)


def _let_in(
    activate: Callable[[ActivateNodeRequest], ActivateNodeResponse],
    beat: Callable[[SendNodeHeartbeatRequest], SendNodeHeartbeatResponse],
    known: int | None,
    request: ActivateNodeRequest,
) -> ActivateNodeResponse:
    """Go on with an earlier session, or begin one: while one lasts, Flower begins no other."""
    try:
        if known is not None and _goes_on(beat, known):
            return ActivateNodeResponse(node_id=known)
        return activate(request)
    except RpcError as error:
        raise _NotLetIn(error) from error


def _goes_on(
    beat: Callable[[SendNodeHeartbeatRequest], SendNodeHeartbeatResponse], known: int
) -> bool:
    node = Node(node_id=known)
    try:
        asked = SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        return bool(beat(asked).success)
    except RpcError as error:
        if error.code() is StatusCode.UNAUTHENTICATED:  # the number is another server's
            return False
        raise


def _heard(
    beat: Callable[..., SendNodeHeartbeatResponse],
    request: SendNodeHeartbeatRequest,
    timeout: float = _CALL,
) -> SendNodeHeartbeatResponse:
    try:
        answer = beat(request, timeout=timeout)
    except RpcError as error:
        raise _Unheard from error
    if not answer.success:
        raise _Unheard
    return answer


def _leave(
    deactivate: Callable[..., DeactivateNodeResponse],
    leaving: list[bool],
    request: DeactivateNodeRequest,
) -> DeactivateNodeResponse:
    return deactivate(request, timeout=_LEAVE) if leaving[0] else DeactivateNodeResponse()


def _run_is_over(error: RpcError) -> bool:
    if error.code() is StatusCode.PERMISSION_DENIED:
        raise RunNotRunningException
    return True


def _said(address: str, error: RpcError) -> FleetError:
    """Return what a failed call means."""
    told = str(error.details() or error.code().name)
    line = explained(told, address)
    if KEY_IN_USE in told:
        return KeyInUse(line)
    if error.code() in _REFUSALS or is_final(told):
        return FleetError(line)
    return LinkLost(line)
