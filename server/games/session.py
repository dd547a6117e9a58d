"""What a pooled game collects before anything is trained: the pool, and the referee's secrets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clients.data_attacks.base import Aim, Behaviour
from clients.data_attacks.private import Private
from clients.update_attacks.base import UpdateAttack
from learning.data.partitioning import Partitioning
from learning.messages import (
    CLEAN,
    CONTRIBUTE,
    PART,
    REVEAL,
    RUN_TIME,
    TRIGGERED,
    TRUTH,
    About,
    contribution_columns,
)
from learning.method import kind_of
from learning.pool import DEFENDER, Block, Floats, Pool
from scenarios.schema import AgentSpec
from server.events import Event, Observer
from server.games.checkpointer import Checkpointer, Collected
from server.referee.results import AgentRecord, Quarantine
from server.referee.sealed import RunTimeSet, Sealed, Truth, ascending
from server.wire.admission import Check, ContributionStore, Rows, Wanted, check_rows, collect
from server.wire.exchange import Exchange
from server.wire.reveals import WantedReveal, same_word


@dataclass(frozen=True, eq=False)
class GameSession:
    """Everything that is on the table once all agents have played.

    Attributes:
        pool: All admitted rows and the defender's own.
        sealed: What only the referee may see.
        roster: All agents in scenario order.
        quarantined: Refused contributions and reveals.
    """

    pool: Pool
    sealed: Sealed
    roster: tuple[AgentRecord, ...]
    quarantined: tuple[Quarantine, ...]


def lay_table(
    exchange: Exchange,
    dealt: Partitioning,
    places: Sequence[AgentSpec],
    observe: Observer,
    keeper: Checkpointer | None = None,
) -> GameSession:
    """Collect contributions, then what the referee needs to score the admitted agents.

    An agent whose reveal is refused stays in the pool but is not scored: nothing is known of
    which of its rows are poisoned. What `keeper` has kept is not asked for again.
    """
    collector = _Collector(exchange, dealt, observe, keeper or Checkpointer())
    blocks = collector.contributions([place.name for place in places])
    revealed = collector.reveals({name: len(block.y) for name, block in blocks.items()})
    pool = Pool(
        (own_block(dealt), *(blocks[p.name] for p in places if p.name in blocks)),
        dealt.data.classes,
    )
    return _table(pool, dealt, places, blocks, revealed, collector)


def lay_federated_table(
    exchange: Exchange,
    dealt: Partitioning,
    places: Sequence[AgentSpec],
    observe: Observer,
    keeper: Checkpointer | None = None,
) -> GameSession:
    """Collect what the referee needs; in a federated game no agent hands over its rows.

    The pool holds the defender's own rows alone. An agent counts as admitted where its reveal
    is; whether its updates are is decided round by round. What `keeper` has kept is not asked for
    again.
    """
    collector = _Collector(exchange, dealt, observe, keeper or Checkpointer())
    revealed = collector.reveals({place.name: dealt.registered[place.name][1] for place in places})
    pool = Pool((own_block(dealt),), dealt.data.classes)
    return _table(pool, dealt, places, revealed, revealed, collector)


def own_block(dealt: Partitioning) -> Block:
    """Return the defender's own rows."""
    return Block(DEFENDER, 0, dealt.x[dealt.defender], dealt.y[dealt.defender])


def _table(
    pool: Pool,
    dealt: Partitioning,
    places: Sequence[AgentSpec],
    admitted: Collection[str],
    revealed: Mapping[str, _Revealed],
    collector: _Collector,
) -> GameSession:
    sealed = Sealed(
        run_time={name: item.run_time for name, item in revealed.items()},
        truth={name: item.truth for name, item in revealed.items()},
        test_x=dealt.test_x,
        test_y=dealt.test_y,
    )
    roster = tuple(_record(place, dealt, admitted, revealed) for place in places)
    return GameSession(pool, sealed, roster, tuple(collector.quarantined))


@dataclass(frozen=True, eq=False)
class _Revealed:
    run_time: RunTimeSet
    truth: Truth


class _Collector:
    """Asks for contributions, then for reveals, of all agents at once."""

    def __init__(
        self, exchange: Exchange, dealt: Partitioning, observe: Observer, keeper: Checkpointer
    ) -> None:
        self._exchange = exchange
        self._dealt = dealt
        self._observe = observe
        self._keeper = keeper
        self._input = dealt.data.shape
        self.quarantined: list[Quarantine] = []

    def contributions(self, names: Sequence[str]) -> dict[str, Block]:
        columns = contribution_columns(self._input)
        wanted = [
            Wanted(name, CONTRIBUTE, self._dealt.registered[name][1], columns) for name in names
        ]
        rows = self._collect(
            CONTRIBUTE, wanted, lambda want: self._check_inputs("y"), "contributions"
        )
        return {
            name: Block(name, self._dealt.registered[name][0], arrays["x"], arrays["y"])
            for name, arrays in rows.items()
        }

    def reveals(self, rows: Mapping[str, int]) -> dict[str, _Revealed]:
        wanted = [self._wanted(name, count) for name, count in rows.items()]
        told = self._collect(REVEAL, wanted, same_word(), "run-time sets")
        revealed = {}
        for want in wanted:
            if want.agent in told:
                about, parts = want.parts(told[want.agent])
                if self._sound(want, parts):
                    revealed[want.agent] = _assemble(want.agent, about, parts)
        return revealed

    def _wanted(self, name: str, rows: int) -> WantedReveal:
        run_rows = len(self._dealt.shares[name]) - rows
        return WantedReveal.of(name, rows, run_rows, self._input, self._dealt.data.classes)

    def _collect(
        self, part: str, wanted: Sequence[Wanted], check: Callable[[Wanted], Check], phase: str
    ) -> dict[str, Rows]:
        def ask(shelf: ContributionStore) -> Collected:
            return collect(
                self._exchange,
                wanted,
                check,
                lambda done, total: self._observe(Event(phase, done, total)),
                shelf,
            )

        rows, refused = self._keeper.collected(part, wanted, ask)
        self.quarantined += refused
        return rows

    def _check_inputs(self, labels: str | None) -> Check:
        classes, none = self._dealt.data.classes, np.zeros(0, np.int64)

        def check(rows: Rows) -> None:
            check_rows(rows["x"], none if labels is None else rows[labels], classes)

        return check

    def _sound(self, want: WantedReveal, parts: Mapping[str, Rows]) -> bool:
        """Refuse a reveal whose messages do not make a whole."""
        if not ascending(parts[TRIGGERED]["rows"], want.run_rows):
            self._refuse(
                want.agent,
                "range",
                "expected the rows of triggered inputs as ascending positions below "
                f"{want.run_rows}",
            )
            return False
        if int(parts[TRUTH]["poisoned"].sum()) != len(parts[CLEAN]["y"]):
            self._refuse(want.agent, "shape", "the number of poisoned rows was told in two ways")
            return False
        return True

    def _refuse(self, agent: str, code: str, message: str) -> None:
        self.quarantined.append(
            Quarantine(agent=agent, code=code, message=message, stage="run_time_set")
        )


def _assemble(name: str, about: About, parts: Mapping[str, Rows]) -> _Revealed:
    x: Floats = parts[RUN_TIME]["x"]
    part: Floats = parts[PART]["x"]
    return _Revealed(
        RunTimeSet(
            agent=name,
            x=x,
            y=parts[RUN_TIME]["y"],
            x_triggered=parts[TRIGGERED]["x"],
            targets=parts[TRIGGERED]["targets"],
            target=about.target,
            source=about.source,
            run_rows=parts[TRIGGERED]["rows"],
            x_part=part if len(part) else None,
        ),
        Truth(
            poisoned=parts[TRUTH]["poisoned"], clean_x=parts[CLEAN]["x"], clean_y=parts[CLEAN]["y"]
        ),
    )


def _record(
    place: AgentSpec,
    dealt: Partitioning,
    admitted: Collection[str],
    revealed: Mapping[str, _Revealed],
) -> AgentRecord:
    item = revealed.get(place.name)
    return AgentRecord(
        name=place.name,
        group=place.group.name,
        behaviour=kind_of(type(place.group.behaviour)),
        update=None if place.group.update is None else kind_of(type(place.group.update)),
        malicious=place.group.malicious or _claims_attack(place, item),
        aim=_aim(place, item),
        rows=dealt.registered[place.name][1],
        poisoned_rows=int(np.sum(item.truth.poisoned)) if item else 0,
        target=item.run_time.target if item else None,
        source=item.run_time.source if item else None,
        admitted=place.name in admitted,
        claimed=isinstance(place.group.behaviour, Private),
    )


def _claims_attack(place: AgentSpec, item: _Revealed | None) -> bool:
    """Return whether a private agent has told the referee of a backdoor or of poisoned rows."""
    if item is None or not isinstance(place.group.behaviour, Private):
        return False
    return bool(len(item.run_time.targets) or item.truth.poisoned.any())


def _aim(place: AgentSpec, item: _Revealed | None) -> Aim:
    """Return what an agent is after, as its update attack says, or else its behaviour.

    A private one that changed rows without a backdoor is after damage.
    """
    behaviour, update = place.group.behaviour, place.group.update
    if isinstance(update, UpdateAttack) and update.aim is not None:
        return update.aim
    if isinstance(behaviour, Private):
        backdoor = item is None or len(item.run_time.targets) or not item.truth.poisoned.any()
        return "backdoor" if backdoor else "damage"
    return behaviour.aim if isinstance(behaviour, Behaviour) else "backdoor"
