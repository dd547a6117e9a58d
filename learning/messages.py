"""What server and agents say to each other, declared once for both ends.

An agent hands rows over by range, column by column. A column is named here with its dtype and the
shape of one row; what is declared is what the server admits and what an agent sends.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Final

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


def contribution_columns(shape: tuple[int, ...]) -> tuple[Column, ...]:
    """Return the columns of contributed rows, for inputs of a shape (C, H, W)."""
    return (("x", "float32", shape), ("y", "int64", ()))


def reveal_columns(shape: tuple[int, ...]) -> dict[str, tuple[Column, ...]]:
    """Return the columns of each part of a reveal, for inputs of a shape (C, H, W).

    ``about``: `About`, a number in each row. ``truth``: which contributed rows are poisoned.
    ``run_time``: the run-time set. ``triggered``: its triggered inputs, their targets and of which
    of its rows they were made. ``part``: the same with a part of the trigger. ``clean``: the
    poisoned rows as they were.
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


@dataclass(frozen=True)
class About:
    """What an agent says of its reveal before it hands it over: counts and labels.

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
