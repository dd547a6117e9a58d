"""What an agent reveals to the referee: one question, and how its replies are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from learning.messages import (
    ABOUT,
    ABOUT_ROWS,
    CLEAN,
    NONE,
    PART,
    REVEAL,
    RUN_TIME,
    TRIGGERED,
    TRUTH,
    About,
    in_reveal,
    reveal_columns,
)
from learning.pool import Ints
from learning.wire import Expected, Refusal, unpack, unpack_one
from server.wire.admission import Check, Rows, Wanted, check_rows, within

_ABOUT = in_reveal(ABOUT, "about")
# Where the labels of a part's inputs are, which must be of the game's classes.
_LABELS = {RUN_TIME: "y", TRIGGERED: "targets", PART: "", CLEAN: "y"}


@dataclass(frozen=True)
class WantedReveal(Wanted):
    """The reveal of one agent; `rows` is the number of its contributed rows.

    Attributes:
        run_rows: Number of rows of its run-time set.
        classes: Number of the game's classes.
    """

    run_rows: int
    classes: int

    @classmethod
    def of(
        cls, agent: str, rows: int, run_rows: int, shape: tuple[int, ...], classes: int
    ) -> WantedReveal:
        """Return what an agent is to reveal, for inputs of a shape (C, H, W)."""
        columns = tuple(
            (in_reveal(part, name), dtype, row)
            for part, parts in reveal_columns(shape).items()
            for name, dtype, row in parts
        )
        return cls(agent, REVEAL, rows, columns, run_rows, classes)

    def count(self, column: str) -> int:
        """See `Wanted.count`: no more than it has rows."""
        part = column.partition(".")[0]
        return ABOUT_ROWS if part == ABOUT else self.rows if part in _OF_ROWS else self.run_rows

    def expected(self, start: int, stop: int) -> dict[str, Expected]:
        """See `Wanted.expected`: the most that a message may hold."""
        return super().expected(start, stop) | {_ABOUT: Expected("int64", (ABOUT_ROWS,))}

    def place(self, column: str, start: int) -> int:
        """See `Wanted.place`: what is said about all rows is said in each message."""
        return 0 if column == _ABOUT else start

    def read(self, content: RecordDict, start: int, stop: int) -> Rows:
        """See `Wanted.read`: first what is said about the rows, then the rows."""
        numbers: Ints = unpack_one(content, _ABOUT, Expected("int64", (ABOUT_ROWS,))).astype(
            np.int64
        )
        about = About.read(numbers)
        self._check_about(about)
        counts = self._counts(about)
        expected = {
            name: want if name == _ABOUT else Expected(want.dtype, (rows, *want.shape[1:]))
            for name, want in self.expected(start, stop).items()
            for rows in [within(start, stop, counts[name.partition(".")[0]])]
        }
        rows: Rows = unpack(content, expected)
        for part, labels in _LABELS.items():
            of_part: Ints = rows[in_reveal(part, labels)] if labels else np.zeros(0, np.int64)
            check_rows(rows[in_reveal(part, "x")], of_part, self.classes)
        return rows

    def parts(self, rows: Mapping[str, np.ndarray]) -> tuple[About, dict[str, Rows]]:
        """Return all rows by part, each as long as it was said to be, and what was said."""
        about = About.read(rows[_ABOUT])
        counts = self._counts(about)
        parts: dict[str, Rows] = {part: {} for part in counts}
        for name, values in rows.items():
            part, _, column = name.partition(".")
            parts[part][column] = values[: counts[part]]
        return about, parts

    def _counts(self, about: About) -> dict[str, int]:
        return {
            ABOUT: ABOUT_ROWS,
            TRUTH: self.rows,
            RUN_TIME: self.run_rows,
            TRIGGERED: about.triggered,
            PART: about.parts,
            CLEAN: about.poisoned,
        }

    def _check_about(self, about: About) -> None:
        if not 0 <= about.triggered <= self.run_rows or not 0 <= about.poisoned <= self.rows:
            raise Refusal(
                "shape",
                f"expected at most {self.run_rows} triggered inputs and at most "
                f"{self.rows} poisoned rows, got {about.triggered} and {about.poisoned}",
            )
        if about.parts not in (0, about.triggered):
            raise Refusal(
                "shape",
                f"expected 0 or {about.triggered} inputs with a part of the trigger, got "
                f"{about.parts}",
            )
        labels = [label for label in (about.target, about.source) if label is not None]
        if not all(0 <= label < self.classes for label in labels):
            raise Refusal(
                "label",
                f"expected target and source in 0..{self.classes - 1} or {NONE}, got "
                f"{' and '.join(map(str, labels))}",
            )


_OF_ROWS = (TRUTH, CLEAN)


def same_word() -> Callable[[Wanted], Check]:
    """Return a check that each agent says the same about its reveal in all of its messages."""
    said: dict[str, list[int]] = {}

    def check(want: Wanted, rows: Rows) -> None:
        numbers = rows[_ABOUT].tolist()
        if said.setdefault(want.agent, numbers) != numbers:
            raise Refusal(
                "shape", "expected the same counts and labels in each message of a reveal"
            )

    return lambda want: lambda rows: check(want, rows)
