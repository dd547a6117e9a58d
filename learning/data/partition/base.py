"""How training rows are dealt to the agents."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from learning.method import Method
from learning.pool import Ints


class Partition(Method):
    """Splits rows among agents."""

    @abstractmethod
    def split(self, y: Ints, agents: int, generator: np.random.Generator) -> list[Ints]:
        """Return for each agent the positions of its rows.

        Args:
            y: Labels of the rows to deal, int64 (n,).
            agents: Number of agents, at least 1.
            generator: Source of all draws.

        Returns:
            `agents` arrays of positions into `y`, disjoint, each of at least 2 rows.

        Raises:
            ValueError: If the rows do not suffice; says how many are needed.
        """
