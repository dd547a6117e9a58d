"""What server and agents say to each other, declared once for both ends.

An agent hands rows over by range, column by column. A column is named here with its dtype and the
shape of one row; what is declared is what the server admits and what an agent sends. A reveal is
one question: its reply holds the asked range of each part, and `About` besides, by which the
server knows how many rows of each part are in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Final, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

# Actions of queries, and of training.
HELLO: Final = "hello"
CONTRIBUTE: Final = "contribute"
REVEAL: Final = "reveal"
UPDATE: Final = "update"
CRAFT: Final = "craft"
# Parts of a reveal.
ABOUT: Final = "about"
TRUTH: Final = "truth"
RUN_TIME: Final = "run_time"
TRIGGERED: Final = "triggered"
PART: Final = "part"
CLEAN: Final = "clean"
# A label that is not there.
NONE: Final = -1

Column = tuple[str, str, tuple[int, ...]]
# What a request says, by name; Flower's `ConfigRecord` holds such values as they are.
Told = dict[str, int | float | str]
_T = TypeVar("_T")


@dataclass(frozen=True)
class RowsRequest:
    """What is asked in ``query.contribute`` and ``query.reveal``: rows by their position.

    Attributes:
        start: The first row.
        stop: The row after the last; a part of a reveal may end before it.
    """

    start: int
    stop: int

    def told(self) -> Told:
        """Return the request as it travels."""
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, object]) -> RowsRequest:
        """Return what a request says.

        Raises:
            ValueError: If a value is missing or of another type; names it.
        """
        return _read(cls, told)


@dataclass(frozen=True)
class RoundInfo:
    """What the table tells an attacker of a round; see `View` for what they mean.

    Attributes:
        participants: Agents asked in this round.
        accomplices: Cheating members of its group among them.
        member: Its own position among those.
        boost: 1 / its share of the participants' registered rows.
        defender: The defender whose rule it is granted to know; "" for none.
    """

    participants: int = 1
    accomplices: int = 1
    member: int = 0
    boost: float = 1.0
    defender: str = ""


@dataclass(frozen=True)
class UpdateRequest:
    """What is asked in ``train.update`` and ``train.craft``, beside the models.

    Attributes:
        round: From 1.
        world: Which game it is, the attacked one or a control; see `learning.worlds`.
        side: Position of the side that asks, among those of the round; the server's own affair.
        info: What an attacker is told besides; None for an agent that cheats with no update.
    """

    round: int
    world: str
    side: int
    info: RoundInfo | None = None

    def told(self) -> Told:
        """Return the request as it travels."""
        own: Told = {"round": self.round, "world": self.world, "side": self.side}
        return own if self.info is None else own | asdict(self.info)

    @classmethod
    def read(cls, told: Mapping[str, object]) -> UpdateRequest:
        """Return what a request says.

        Raises:
            ValueError: If a value is missing or of another type; names it.
        """
        info = _read(RoundInfo, told) if "participants" in told else None
        own = {name: _value(told, name, kind) for name, kind in _UPDATE_FIELDS.items()}
        return cls(**own, info=info)


_UPDATE_FIELDS: Final[dict[str, Any]] = {"round": int, "world": str, "side": int}


def _read(kind: type[_T], told: Mapping[str, object]) -> _T:
    types = get_type_hints(kind)
    return kind(**{name: _value(told, name, of) for name, of in types.items()})


def _value(told: Mapping[str, object], name: str, kind: type[_T]) -> _T:
    value = told.get(name)
    if not isinstance(value, kind) or type(value) is not kind:  # True is an int to isinstance
        got = "nothing" if value is None else type(value).__name__
        raise ValueError(f"expected {name} of a request as {kind.__name__}, got {got}")
    return value


def contribution_columns(shape: tuple[int, ...]) -> tuple[Column, ...]:
    """Return the columns of contributed rows, for inputs of a shape (C, H, W)."""
    return (("x", "float32", shape), ("y", "int64", ()))


def reveal_columns(shape: tuple[int, ...]) -> dict[str, tuple[Column, ...]]:
    """Return the columns of each part of a reveal, for inputs of a shape (C, H, W).

    ``about``: `About`, a number in each row. ``truth``: which contributed rows are poisoned.
    ``run_time``: the run-time set. ``triggered``: its triggered inputs, their targets and of which
    of its rows they were made. ``part``: the same with a part of the trigger. ``clean``: the
    poisoned rows as they were. In a message a column is named as in `in_reveal`.
    """
    x, y = contribution_columns(shape)
    return {
        ABOUT: (("about", "int64", ()),),
        TRUTH: (("poisoned", "bool", ()),),
        RUN_TIME: (x, y),
        TRIGGERED: (x, ("targets", "int64", ()), ("rows", "int64", ())),
        PART: (x,),
        CLEAN: (x, y),
    }


def in_reveal(part: str, column: str) -> str:
    """Return the name of a part's column in a message that holds all parts."""
    return f"{part}.{column}"


@dataclass(frozen=True)
class About:
    """What an agent says of its reveal in each of its messages: counts and labels.

    Attributes:
        triggered: Number of triggered inputs.
        poisoned: Number of poisoned rows.
        target: Its target label; None for none, or for several.
        source: Label of the inputs that it poisons; None for any.
        parts: Number of inputs with a part of the trigger.
    """

    triggered: int
    poisoned: int
    target: int | None
    source: int | None
    parts: int

    @classmethod
    def read(cls, numbers: NDArray[np.int64]) -> About:
        """Return what the numbers say; int64 (`ABOUT_ROWS`,). Their ranges are not checked."""
        triggered, poisoned, target, source, parts = (int(n) for n in numbers)
        return cls(triggered, poisoned, _label(target), _label(source), parts)

    def numbers(self) -> NDArray[np.int64]:
        """Return it as it travels: int64 (`ABOUT_ROWS`,), a missing label as -1."""
        return np.asarray([NONE if n is None else n for n in astuple(self)], dtype=np.int64)


ABOUT_ROWS: Final = len(fields(About))


def _label(number: int) -> int | None:
    return None if number == NONE else number
