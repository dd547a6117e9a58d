"""Admission: the check that every contribution passes before anything else sees it.

A bad contribution is quarantined with a reason; the game goes on without that agent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from flwr.app import RecordDict

from learning.messages import REVEAL, Column, RowsRequest
from learning.pool import Floats, Ints
from learning.wire import Expected, Refusal, unpack
from server.referee.results import Quarantine
from server.wire.exchange import Ask, Exchange

_MESSAGE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Wanted:
    """Rows that an agent is to hand over.

    Attributes:
        agent: Whom to ask.
        action: The query.
        rows: Number of rows registered for it.
        columns: Name, dtype and shape of one row of each array.
    """

    agent: str
    action: str
    rows: int
    columns: tuple[Column, ...]

    def count(self, column: str) -> int:
        """Return how many rows of a column there may be at most."""
        return self.rows

    def expected(self, start: int, stop: int) -> dict[str, Expected]:
        """Return what a message with these rows must hold, or may hold at most."""
        return {
            name: Expected(dtype, (within(start, stop, self.count(name)), *shape))
            for name, dtype, shape in self.columns
        }

    def read(self, content: RecordDict, start: int, stop: int) -> Rows:
        """Return the rows of a reply.

        Raises:
            Refusal: If it holds something else.
        """
        return unpack(content, self.expected(start, stop))

    def place(self, column: str, start: int) -> int:
        """Return from which row of a column on a message's values belong."""
        return start

    def reply_bytes(self, start: int, stop: int) -> int:
        """Return the size of a reply with these rows, at most."""
        wanted = self.expected(start, stop).values()
        return sum(np.dtype(want.dtype).itemsize * math.prod(want.shape) for want in wanted)

    def chunks(self) -> list[tuple[int, int]]:
        """Return the row ranges to ask for, each within one message's size."""
        last = max((self.count(name) for name, _, _ in self.columns), default=0)
        if self.reply_bytes(0, last) <= _MESSAGE_BYTES:
            return [(0, last)] if last else []
        step = max(1, _MESSAGE_BYTES // max(1, self.reply_bytes(0, 1)))
        return [(a, min(a + step, last)) for a in range(0, last, step)]


def within(start: int, stop: int, count: int) -> int:
    """Return how many of `count` rows lie in a range."""
    return max(0, min(stop, count) - start)


Rows = dict[str, np.ndarray]
Check = Callable[[Rows], None]


class ContributionStore(Protocol):
    """Where admitted rows are put as they come in, and found again."""

    def put(self, agent: str, start: int, rows: Rows) -> None:
        """Store some rows of an agent, from its row `start` on."""

    def rows(self, agents: Sequence[str]) -> dict[str, Rows]:
        """Return all rows of some agents."""


class Memory:
    """Rows in memory."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = {want.agent: want for want in wanted}
        self._arrays: dict[str, Rows] = {}

    def put(self, agent: str, start: int, rows: Rows) -> None:
        """See `ContributionStore.put`."""
        target = self._of(agent)
        for name, values in rows.items():
            at = self._wanted[agent].place(name, start)
            target[name][at : at + len(values)] = values

    def rows(self, agents: Sequence[str]) -> dict[str, Rows]:
        """See `ContributionStore.rows`."""
        return {name: self._of(name) for name in agents}

    def _of(self, agent: str) -> Rows:
        if agent not in self._arrays:
            want = self._wanted[agent]
            self._arrays[agent] = {
                name: np.empty((want.count(name), *shape), dtype)
                for name, dtype, shape in want.columns
            }
        return self._arrays[agent]


def collect(
    exchange: Exchange,
    wanted: Sequence[Wanted],
    check: Callable[[Wanted], Check],
    tell: Callable[[int, int], None],
    shelf: ContributionStore | None = None,
) -> tuple[dict[str, Rows], list[Quarantine]]:
    """Ask agents for rows; keep the good ones, quarantine the rest.

    Args:
        exchange: The conversation.
        wanted: One entry for each agent.
        check: Gives for an entry the check of its values; it raises `Refusal`.
        tell: Called with messages done and in all.
        shelf: Where good rows are put; in memory by default.

    Returns:
        For each admitted agent its arrays, copied, in the order of `wanted`; and the refusals,
        one for each refused agent.
    """
    by_agent = {want.agent: want for want in wanted}
    shelf = Memory(wanted) if shelf is None else shelf
    refused: dict[str, Quarantine] = {}
    strays: list[Quarantine] = []
    asks = [
        Ask(w.agent, w.action, RowsRequest(a, b).told(), reply_bytes=w.reply_bytes(a, b))
        for w in wanted
        for a, b in w.chunks()
    ]
    done = 0

    def read(ask: Ask, content: RecordDict) -> None:
        want = by_agent[ask.agent]
        asked = RowsRequest.read(ask.fields)
        rows = want.read(content, asked.start, asked.stop)
        check(want)(rows)
        if ask.agent not in refused:
            shelf.put(ask.agent, asked.start, rows)
        step()

    def refuse(ask: Ask, refusal: Refusal) -> None:
        stage = "run_time_set" if ask.action == REVEAL else "contribution"
        entry = Quarantine(agent=ask.agent, code=refusal.code, message=refusal.message, stage=stage)
        if refusal.code in {"duplicate", "unknown_agent"}:  # beside a reply that counts
            strays.append(entry)
            return
        refused.setdefault(ask.agent, entry)
        step()

    def step() -> None:
        nonlocal done
        done += 1
        tell(done, len(asks))

    exchange.ask(asks, read, refuse)
    good = [want.agent for want in wanted if want.agent not in refused]
    told = [refused[want.agent] for want in wanted if want.agent in refused]
    return shelf.rows(good), told + strays


def check_rows(x: Floats, labels: Ints, classes: int) -> None:
    """Check the values of contributed rows.

    Raises:
        Refusal: ``non_finite``, ``range`` or ``label``.
    """
    if not np.isfinite(x).all():
        raise Refusal("non_finite", "expected finite inputs, got NaN or infinity")
    # Written so that a NaN could never pass.
    if x.size and not (float(x.min()) >= 0.0 and float(x.max()) <= 1.0):
        raise Refusal("range", f"expected inputs in [0, 1], got {x.min():.4g} to {x.max():.4g}")
    if labels.size and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        got = f"{int(labels.min())} to {int(labels.max())}"
        raise Refusal("label", f"expected labels in 0..{classes - 1}, got {got}")
