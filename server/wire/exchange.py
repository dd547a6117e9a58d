"""The server's conversation with its agents over a Flower `Grid`.

Identity comes from the node that a message was sent to, never from what a reply says. Replies are
handled one at a time as they come in and are then dropped, so that memory does not grow with the
number of agents.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from learning.messages import HELLO
from learning.wire import DECLINED, MALFORMED, RECORD, REFUSED, STALE, Refusal

# Codes of errors that say what was wrong with a reply, rather than what went wrong at the agent.
_CODES: Final = {REFUSED: "size", STALE: "stale", MALFORMED: "header", DECLINED: "declined"}
# Flower's codes for what is no agent's answer: a request or a reply that nobody holds any longer
# (a request is forgotten at its deadline), and an agent that was not heard of for a minute.
_EXPIRED: Final = (3, 4)
_OFFLINE: Final = 5
# An agent may send any number of replies that nobody asked for; so many are told in one asking.
_STRAYS_TOLD = 100
_IN_FLIGHT = 256
_IN_FLIGHT_BYTES = 2**29
# A grid hands over all replies that have come in, so those of large contributions are kept few.
_REPLY_BYTES = 2**27
# Of the deadline, after which a silent agent keeps nobody else waiting.
_PATIENCE = 0.1
# How many requests are sent at once; what they share, such as the model, travels once.
_TOGETHER = 16
# Replies are looked for again after a tenth of the time for which none has come, within bounds:
# that adds a tenth at most to a round; seconds.
_SHORTEST_POLL = 0.02
_LONGEST_POLL = 0.5


@dataclass(frozen=True)
class Ask:
    """One request to one agent.

    Attributes:
        agent: Whom to ask.
        action: The action, such as ``contribute``.
        fields: What to ask for.
        category: ``query`` or ``train``.
        arrays: A model to send along; one record may go to many agents.
        more: Further records by name.
        reply_bytes: Size of the reply, where it is not that of what is sent.
    """

    agent: str
    action: str
    fields: Mapping[str, int | float | str]
    category: str = "query"
    arrays: ArrayRecord | None = None
    more: Mapping[str, ArrayRecord] = field(default_factory=dict)
    reply_bytes: int = 0


class Exchange:
    """Asks agents and hands their replies to a reader.

    Args:
        grid: The transport. It may have a `paused`, the seconds for which it could carry nothing
            so far; they are no agent's fault, and count for no deadline.
        nodes: Node id of each agent.
        deadline: Seconds that one round of asking may take.
    """

    def __init__(self, grid: Grid, nodes: Mapping[str, int], deadline: float) -> None:
        self._grid = grid
        self._nodes = dict(nodes)
        self._deadline = deadline

    def ask(
        self,
        asks: Sequence[Ask],
        read: Callable[[Ask, RecordDict], None],
        refuse: Callable[[Ask, Refusal], None],
    ) -> None:
        """Send all requests and handle each one's first reply.

        Args:
            asks: Requests, sent in this order, a bounded number at a time.
            read: Called with each good reply, in the order of arrival; may raise `Refusal`.
            refuse: Called for each request without a good reply, and with the codes
                ``duplicate`` and ``unknown_agent`` for the first hundred replies that nobody
                asked for.
        """
        heard = self._clock()
        end = heard + self._deadline
        open_asks: dict[str, Ask] = {}
        sent: deque[tuple[float, str]] = deque()
        answered: dict[str, Ask] = {}
        waiting = list(reversed(asks))
        strays = 0
        while waiting or open_asks:
            self._send(waiting, open_asks, sent, refuse)
            idle = True
            for reply in self._grid.pull_messages(list(open_asks)):
                idle, heard = False, self._clock()
                message_id = reply.metadata.reply_to_message_id
                if message_id in open_asks:
                    answered[message_id] = open_asks.pop(message_id)
                    self._handle(answered[message_id], reply, read, refuse)
                elif (strays := strays + 1) <= _STRAYS_TOLD:
                    self._refuse_stray(answered.get(message_id), refuse)
            now = self._clock()
            if now > end:
                break
            if idle and open_asks:
                time.sleep(min(_LONGEST_POLL, max(_SHORTEST_POLL, (now - heard) / 10)))
        for ask in [*open_asks.values(), *reversed(waiting)]:
            refuse(ask, self._late())

    def wait_for(self, agents: Sequence[str], enough: int, since: float) -> None:
        """Wait until so many agents are online again, or a deadline is over.

        A SuperLink answers at once for agents that it takes for gone. Without this a game would
        skip all its rounds within seconds while a network is down.

        Args:
            agents: Who is waited for.
            enough: How many of them.
            since: When the deadline began, by `time.monotonic`.
        """
        wanted = {self._nodes[name] for name in agents if name in self._nodes}
        enough, end = min(enough, len(wanted)), since + self._deadline
        while len(wanted & set(self._grid.get_node_ids())) < enough and time.monotonic() < end:
            time.sleep(_LONGEST_POLL)

    def _clock(self) -> float:
        """Return a time that stands still while the transport can carry nothing."""
        return time.monotonic() - float(getattr(self._grid, "paused", 0.0))

    def _send(
        self,
        waiting: list[Ask],
        open_asks: dict[str, Ask],
        sent: deque[tuple[float, str]],
        refuse: Callable[[Ask, Refusal], None],
    ) -> None:
        now = self._clock()
        silent = now - _PATIENCE * self._deadline
        while sent and (sent[0][0] < silent or sent[0][1] not in open_asks):
            sent.popleft()
        awaited = sum(message_id in open_asks for _, message_id in sent)
        batch: list[tuple[Ask, Message]] = []
        while waiting and awaited < _room(waiting[-1]):
            ask = waiting.pop()
            node = self._nodes.get(ask.agent)
            if node is None:
                refuse(ask, Refusal("missing", "the agent has not joined"))
                continue
            content = RecordDict({"ask": ConfigRecord(dict(ask.fields))})
            if ask.arrays is not None:
                content[RECORD] = ask.arrays
            for name, record in ask.more.items():
                content[name] = record
            kind = f"{ask.category}.{ask.action}"
            batch.append((ask, Message(content, node, kind, ttl=max(self._deadline, 1.0))))
            awaited += 1
        for some in (batch[k : k + _TOGETHER] for k in range(0, len(batch), _TOGETHER)):
            ids = list(self._grid.push_messages([message for _, message in some]))
            for message_id, (ask, _) in zip(ids, some, strict=False):
                open_asks[message_id] = ask
                sent.append((now, message_id))
            for ask, _ in some[len(ids) :]:
                refuse(ask, Refusal("missing", "the request is too large for the transport"))

    @staticmethod
    def _refuse_stray(ask: Ask | None, refuse: Callable[[Ask, Refusal], None]) -> None:
        if ask is None:
            stranger = Ask("(unknown)", "", {})
            refuse(stranger, Refusal("unknown_agent", "a reply to no request of this game"))
        else:
            refuse(ask, Refusal("duplicate", "a second reply to one request; the first is kept"))

    def _handle(
        self,
        ask: Ask,
        reply: Message,
        read: Callable[[Ask, RecordDict], None],
        refuse: Callable[[Ask, Refusal], None],
    ) -> None:
        if reply.has_error():
            refuse(ask, self._failed(reply.error.code, reply.error.reason or "no reason given"))
            return
        try:
            read(ask, reply.content)
        except Refusal as refusal:
            refuse(ask, refusal)

    def _failed(self, code: int, reason: str) -> Refusal:
        line = " ".join(reason.split())[:300]
        if code in _EXPIRED:
            return self._late()
        if code == _OFFLINE:
            return Refusal("missing", "the agent is offline")
        known = _CODES.get(code)
        if known is None:
            return Refusal("error", f"the agent failed: {line}")
        return Refusal(known, line)

    def _late(self) -> Refusal:
        return Refusal("missing", f"no reply within {self._deadline:g} s")


def _room(ask: Ask) -> int:
    """Return how many requests like this one may be open: replies are as large unless told."""
    if ask.reply_bytes:
        return max(1, min(_IN_FLIGHT, _REPLY_BYTES // ask.reply_bytes))
    records = [*ask.more.values(), *([ask.arrays] if ask.arrays is not None else [])]
    size = sum(record.count_bytes() for record in records)
    return max(8, min(_IN_FLIGHT, _IN_FLIGHT_BYTES // max(size, 1)))


def seat_agents(grid: Grid, names: Sequence[str], deadline: float) -> dict[str, int]:
    """Return the node of each agent that has joined, waiting for all of them.

    A grid that knows its nodes by name is believed (names are bound to keys there); on one that
    does not, every node is asked for its place at the table.

    Args:
        grid: The transport.
        names: All agents of the scenario, in order.
        deadline: Seconds to wait for the last of them.
    """
    end = time.monotonic() + deadline
    nodes = list(grid.get_nodes())
    while len(nodes) < len(names) and time.monotonic() < end:
        time.sleep(_SHORTEST_POLL)
        nodes = list(grid.get_nodes())
    named = {node.name: node.node_id for node in nodes if node.name}
    if named:
        return {name: named[name] for name in names if name in named}
    return _seats_by_hello(grid, names, [node.node_id for node in nodes], deadline)


def _seats_by_hello(
    grid: Grid, names: Sequence[str], node_ids: Iterable[int], deadline: float
) -> dict[str, int]:
    ids = {str(node_id): node_id for node_id in node_ids}
    seats: dict[str, int] = {}

    def read(ask: Ask, content: RecordDict) -> None:
        seat = content.config_records.get("seat")
        place = None if seat is None else seat.get("partition-id")
        if type(place) is int and 0 <= place < len(names):  # True is an int to isinstance
            seats.setdefault(names[place], ids[ask.agent])

    asks = [Ask(node, HELLO, {}) for node in ids]
    Exchange(grid, ids, deadline).ask(asks, read, lambda ask, refusal: None)
    return {name: seats[name] for name in names if name in seats}
