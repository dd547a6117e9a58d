"""What a pooled game collects before anything is trained: the pool, and the referee's secrets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clients.data_attacks.base import Aim, Behaviour
from clients.data_attacks.private import Private
from learning.data.partitioning import Partitioning
from learning.messages import (
    ABOUT,
    ABOUT_ROWS,
    CLEAN,
    CONTRIBUTE,
    NONE,
    PART,
    REVEAL,
    RUN_TIME,
    TRIGGERED,
    TRUTH,
    About,
    contribution_columns,
    reveal_columns,
)
from learning.method import kind_of
from learning.pool import DEFENDER, Block, Bools, Floats, Ints, Pool
from scenarios.schema import AgentSpec
from server.events import Event, Observer
from server.games.checkpointer import Checkpointer, Collected
from server.referee.results import AgentRecord, Quarantine
from server.referee.sealed import RunTimeSet, Sealed, Truth, ascending
from server.wire.admission import Check, ContributionStore, Rows, Wanted, check_rows, collect
from server.wire.exchange import Exchange


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
    """Asks for one part after the other, for all agents at once."""

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
            Wanted(name, CONTRIBUTE, "", self._dealt.registered[name][1], columns) for name in names
        ]
        rows = self._collect(
            CONTRIBUTE, wanted, lambda want: self._check_inputs("y"), "contributions"
        )
        return {
            name: Block(name, self._dealt.registered[name][0], arrays["x"], arrays["y"])
            for name, arrays in rows.items()
        }

    def reveals(self, rows: Mapping[str, int]) -> dict[str, _Revealed]:
        run_rows = {name: len(self._dealt.shares[name]) - count for name, count in rows.items()}
        told = self._part(ABOUT, dict.fromkeys(rows, ABOUT_ROWS))
        about = {name: About.read(item["about"]) for name, item in told.items()}
        about = {n: said for n, said in about.items() if self._sound(n, said, rows[n], run_rows[n])}
        truth = self._part(TRUTH, {n: rows[n] for n in about})
        run_time = self._part(RUN_TIME, {n: run_rows[n] for n in truth}, "y")
        triggered = self._part(TRIGGERED, {n: about[n].triggered for n in run_time}, "targets")
        triggered = {
            name: item
            for name, item in triggered.items()
            if self._in_order(name, item["rows"], run_rows[name])
        }
        part = self._part(PART, {n: about[n].parts for n in triggered})
        clean = self._part(CLEAN, {n: about[n].poisoned for n in part}, "y")
        revealed = {}
        for name in clean:
            poisoned: Bools = truth[name]["poisoned"]
            if int(poisoned.sum()) != about[name].poisoned:
                self._refuse(name, "shape", "the number of poisoned rows was told in two ways")
                continue
            revealed[name] = _assemble(
                name,
                about[name],
                poisoned,
                run_time[name],
                triggered[name],
                part[name],
                clean[name],
            )
        return revealed

    def _part(
        self,
        part: str,
        rows: Mapping[str, int],
        labels: str | None = None,
    ) -> dict[str, Rows]:
        columns = reveal_columns(self._input)[part]
        wanted = [Wanted(name, REVEAL, part, count, columns) for name, count in rows.items()]
        images = any(name == "x" for name, _, _ in columns)
        check = self._check_inputs(labels) if images else (lambda rows: None)
        return self._collect(part, wanted, lambda want: check, "run-time sets")

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

    def _sound(self, name: str, about: About, rows: int, run_rows: int) -> bool:
        classes = self._dealt.data.classes
        if not 0 <= about.triggered <= run_rows or not 0 <= about.poisoned <= rows:
            self._refuse(
                name,
                "shape",
                f"expected at most {run_rows} triggered inputs and at most "
                f"{rows} poisoned rows, got {about.triggered} and {about.poisoned}",
            )
            return False
        if about.parts not in (0, about.triggered):
            self._refuse(
                name,
                "shape",
                f"expected 0 or {about.triggered} inputs with a part of the trigger, got "
                f"{about.parts}",
            )
            return False
        labels = [label for label in (about.target, about.source) if label is not None]
        if not all(0 <= label < classes for label in labels):
            self._refuse(
                name,
                "label",
                f"expected target and source in 0..{classes - 1} or {NONE}, got "
                f"{' and '.join(map(str, labels))}",
            )
            return False
        return True

    def _in_order(self, name: str, rows: Ints, run_rows: int) -> bool:
        if not ascending(rows, run_rows):
            self._refuse(
                name,
                "range",
                f"expected the rows of triggered inputs as ascending positions below {run_rows}",
            )
            return False
        return True

    def _refuse(self, agent: str, code: str, message: str) -> None:
        self.quarantined.append(
            Quarantine(agent=agent, code=code, message=message, stage="run_time_set")
        )


def _assemble(
    name: str,
    about: About,
    poisoned: Bools,
    run_time: Rows,
    triggered: Rows,
    part: Rows,
    clean: Rows,
) -> _Revealed:
    x: Floats = run_time["x"]
    return _Revealed(
        RunTimeSet(
            agent=name,
            x=x,
            y=run_time["y"],
            x_triggered=triggered["x"],
            targets=triggered["targets"],
            target=about.target,
            source=about.source,
            run_rows=triggered["rows"],
            x_part=part["x"] if len(part["x"]) else None,
        ),
        Truth(poisoned=poisoned, clean_x=clean["x"], clean_y=clean["y"]),
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
    """Return what an agent is after; a private one that changed rows without a backdoor: damage."""
    behaviour = place.group.behaviour
    if isinstance(behaviour, Private):
        backdoor = item is None or len(item.run_time.targets) or not item.truth.poisoned.any()
        return "backdoor" if backdoor else "damage"
    return behaviour.aim if isinstance(behaviour, Behaviour) else "backdoor"
