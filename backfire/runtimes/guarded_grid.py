"""The grid of a game on real machines: replies are checked, and a SuperLink may go and return."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from backfire.runtimes.flower.private import NodeInfo, Run, stamp_reply_to
from backfire.runtimes.flower.server_api import LinkDown, LinkGrid, RequestRefused, RunLost
from learning.wire import STALE

ECHO: Final = "echo"
# Seconds that agents are given to come back to a SuperLink that has come back, and between looks.
_REJOIN = 45.0
_LOOK = 0.2
# Flower's codes for a request or a reply that the SuperLink does not hold any longer.
_UNKNOWN: Final = (3, 4)
# The same for an agent that was not heard of for a minute.
_OFFLINE: Final = 5


@dataclass(frozen=True)
class _Request:
    """A request that waits for its reply.

    Attributes:
        asked_as: What whoever asked calls it: its id in the run that it was first sent in.
        nonce: What the reply must carry.
        message: The request.
        paused: How long nothing could be carried until it was sent.
    """

    asked_as: str
    nonce: str
    message: Message
    paused: float


class GuardedGrid(Grid):
    """A grid whose replies must carry the nonce of the request that they answer.

    The nonce is 128 random bits for each request, which this process alone keeps, sent to the one
    agent that is asked, and forgotten with the first reply. So it stands for the game, the world,
    the round and the agent of the request; to echo those as well would add nothing that is not
    known here already. It also makes the id of a request, the SHA-256 of its content, one that
    nobody else can guess, and so nobody else can answer it.

    A reply of another round or game, sent again, becomes an error with the code `STALE`.

    Where the SuperLink does not answer, the game waits for it, and then for its agents. Where it
    has given up the run meanwhile (it hears nothing of the table for a minute), the game goes on in
    another run: what is not answered is asked again.

    Args:
        grid: The run's grid.
        another: Begins another run, and returns its grid.
    """

    def __init__(self, grid: LinkGrid, another: Callable[[], LinkGrid] | None = None) -> None:
        self._grid, self._another = grid, another
        self._requests: dict[str, _Request] = {}
        self._paused = 0.0

    @property
    def paused(self) -> float:
        """Seconds for which nothing could be carried: the agents' deadlines are longer by them."""
        return self._paused + self._grid.patience.paused

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message; prefer the constructor of `Message`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes that are online."""
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes that are online, under the names that their keys are registered as.

        Raises:
            LinkDown: If the SuperLink stays away, or another run cannot be begun.
        """
        while True:
            try:
                return self._grid.get_nodes()
            except RunLost:
                self._renew()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; each is given a nonce.

        Raises:
            LinkDown: If the SuperLink stays away, or another run cannot be begun.
        """
        sent, began = list(messages), self.paused
        new: list[str | None] = [None] * len(sent)
        try:
            names = self._push(sent, new)
        except (RunLost, RequestRefused) as error:
            if isinstance(error, RunLost):
                self._renew()
            elif self.paused == began:
                raise
            # They ran out while nothing could be carried, or are of a run that is over.
            names = self._push([_again(message) for message in sent], new)
        if self.paused > began:
            self._await_agents()
        return names

    def _push(self, sent: list[Message], asked_as: Iterable[str | None]) -> list[str]:
        nonces = [secrets.token_hex(16) for _ in sent]
        for message, nonce in zip(sent, nonces, strict=True):
            message.content[ECHO] = ConfigRecord({"nonce": nonce})
        self._grid.push_messages(sent)
        ids = [message.metadata.message_id for message in sent]  # known even if it took none
        names = [name or own for name, own in zip(asked_as, ids, strict=True)]
        for own, name, nonce, message in zip(ids, names, nonces, sent, strict=True):
            self._requests[own] = _Request(name, nonce, message, self.paused)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there.

        Raises:
            LinkDown: If the SuperLink stays away, or another run cannot be begun.
        """
        asked = set(message_ids)
        for own in [own for own, each in self._requests.items() if each.asked_as not in asked]:
            del self._requests[own]
            self._grid.forget(own)
        try:
            replies = self._grid.pull_messages(list(self._requests))
        except LinkDown:
            self._await_agents()
        except RunLost:
            self._renew()
        else:
            lost = [reply for reply in replies if self._lost_in_a_pause(reply)]
            self._ask_again([self._requests.pop(_answered(reply)) for reply in lost])
            return [self._checked(reply) for reply in replies if reply not in lost]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Refuse: the games push and pull for themselves."""
        raise NotImplementedError("push messages, and pull their replies")

    def _checked(self, message: Message) -> Message:
        own = _answered(message)
        request = self._requests.pop(own, None)
        if request is not None:
            stamp_reply_to(message, request.asked_as)
        if message.has_error():
            if request is not None and message.error.code in (*_UNKNOWN, _OFFLINE):
                self._grid.forget(own)  # its agent may never have fetched it
            return message
        told = message.content.pop(ECHO, None)
        nonce = told.get("nonce") if isinstance(told, ConfigRecord) else None
        if request is not None and nonce == request.nonce:
            return message
        reason = "expected the nonce of the request in its reply, got another or none"
        return Message(Error(STALE, reason), metadata=message.metadata)  # type: ignore[call-overload,no-any-return]

    def _lost_in_a_pause(self, reply: Message) -> bool:
        """Return whether a request ran out, or its reply was lost, since nothing was carried."""
        request = self._requests.get(_answered(reply))
        gone = reply.has_error() and reply.error.code in _UNKNOWN
        return gone and request is not None and self.paused > request.paused

    def _ask_again(self, requests: list[_Request]) -> None:
        if requests:
            messages = [_again(request.message) for request in requests]
            self._push(messages, [request.asked_as for request in requests])

    def _await_agents(self) -> None:
        """Wait for the SuperLink, then for the agents that have not answered; a while only.

        A SuperLink that was away takes its agents for gone until they have been back.
        """
        wanted = {each.message.metadata.dst_node_id for each in self._requests.values()}
        online = set(self.get_node_ids())
        began = time.monotonic()
        while not wanted <= online and time.monotonic() < began + _REJOIN:
            time.sleep(_LOOK)
            online = set(self.get_node_ids())
        self._paused += time.monotonic() - began

    def _renew(self) -> None:
        """Go on in another run."""
        if self._another is None:
            raise LinkDown("the SuperLink has given up the run")
        began, paused = time.monotonic(), self.paused
        waiting = list(self._requests.values())
        self._requests.clear()
        self._grid = self._another()
        self._paused = paused + time.monotonic() - began
        self._ask_again(waiting)
        self._await_agents()


def _answered(reply: Message) -> str:
    return reply.metadata.reply_to_message_id


def _again(message: Message) -> Message:
    told = message.metadata
    return Message(message.content, told.dst_node_id, told.message_type, ttl=told.ttl)
