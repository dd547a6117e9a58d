"""How training rows are dealt to the agents."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from learning.method import Method
from learning.pool import Ints


class Partition(Method):
    """Splits rows among agents.

    Attributes:
        disjoint: Whether a row goes to one agent at most.
    """

    disjoint: ClassVar[bool] = True

    def least(self, agents: int) -> int:
        """Return a number of rows below which they surely do not suffice, whatever their labels."""
        return 2 * agents if self.disjoint else 2

    @abstractmethod
    def split(self, y: Ints, agents: int, generator: np.random.Generator) -> list[Ints]:
        """Return for each agent the positions of its rows.

        Args:
            y: Labels of the rows to deal, int64 (n,).
            agents: Number of agents, at least 1.
            generator: Source of all draws.

        Returns:
            `agents` arrays of positions into `y`, each of at least 2 different rows; disjoint
            unless the class says otherwise.

        Raises:
            ValueError: If the rows do not suffice; says how many are needed.
        """


def need_rows(rows: int, agents: int, each: int = 2) -> None:
    """Check that there are rows for everybody.

    Args:
        rows: Rows to deal.
        agents: Number of agents.
        each: Rows that each agent must get; 2 are one to contribute and one for run time.

    Raises:
        ValueError: If there are fewer than ``agents * each``; says how many are needed.
    """
    if rows < agents * each:
        raise ValueError(
            f"{agents} agent{'s' * (agents > 1)} need{'s' * (agents == 1)} at least "
            f"{agents * each} rows ({each} each), got {rows}: take fewer agents, a smaller "
            "defender_share or more training rows"
        )


def as_rows(positions: Ints) -> Ints:
    """Return positions ascending, int64."""
    return np.sort(positions).astype(np.int64, copy=False)
