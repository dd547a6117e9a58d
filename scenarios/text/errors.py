"""What is said about a scenario that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from scenarios.text.quoting import printable

MAX_PROBLEMS: Final = 20


@dataclass(frozen=True)
class LocatedProblem:
    """One mistake in a scenario.

    Attributes:
        file: The scenario file, or ``--set`` or ``--only``.
        line: From 1; None for a whole file or an option.
        column: From 1.
        field: Such as ``agents[1].behaviour.poison_rate``; "" for the whole scenario.
        message: ``expected ..., got ...``.
    """

    file: str
    line: int | None
    column: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = printable(self.file, 300)
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        return f"{place} {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class ScenarioError(Exception):
    """A scenario cannot be used.

    Attributes:
        problems: What is wrong, in the order of the file; at most `MAX_PROBLEMS`.
        lines: The same, one printable line each.
    """

    def __init__(self, problems: Iterable[LocatedProblem], more: int = 0) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        if more:
            lines.append(f"{printable(self.problems[0].file, 300)}: and {more} more problems")
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))
