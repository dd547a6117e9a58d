"""What attackers cost in clean accuracy: the same test inputs in all games, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.statistics import Compared, combined_difference
from server.referee.results import Difference, Quantity

# Of each training the share of asking agents that are answered right, input by input.
Right = NDArray[np.float64]
POINTS = "points"


@dataclass(frozen=True, eq=False)
class DamageHits:
    """Which test inputs are answered right in each game, float64 (trainings, n).

    Attributes:
        free: In the game without attackers, asked for by the malicious agents.
        together: In the attacked game, asked for by them.
        alone: For each attacker that was also played alone the game without attackers and its own,
            both asked for by itself.
        attackers: Names of all admitted malicious agents.
        apart: Whether models differ by asking agent, so that costs of several agents are costs of
            different models and do not add up.
    """

    free: Right
    together: Right
    alone: Mapping[str, tuple[Right, Right]]
    attackers: tuple[str, ...]
    apart: bool

    def summed(self, agents: Sequence[str]) -> Quantity | None:
        """Return the sum of the agents' damages alone, in points; None where that is not known."""
        if not self._adds_up(agents):
            return None
        return in_points(combined_difference(*self._costs(agents, 1.0)))

    def mean_alone(self, agents: Sequence[str]) -> Difference | None:
        """Return the mean damage alone of those of the agents that were played alone."""
        played = [name for name in agents if name in self.alone]
        if not played:
            return None
        found = combined_difference(*self._costs(played, 1.0 / len(played)))
        value, low, high = found.interval
        return Difference(
            value=value if found.inputs else None,
            count=found.inputs,
            low=max(-1.0, low),
            high=min(1.0, high),
            trainings=found.trainings,
        )

    def interference(self, agents: Sequence[str]) -> Quantity | None:
        """Return what the agents do alone, summed, beyond what they do together, in points.

        None where one of them was not played alone, where others attack beside them, and for a
        single agent.
        """
        if not self._adds_up(agents) or set(agents) != set(self.attackers) or len(agents) < 2:
            return None
        games, factors = self._costs(agents, 1.0)
        games, factors = [*games, self.free, self.together], [*factors, -1.0, 1.0]
        return in_points(combined_difference(games, factors))

    def _costs(self, agents: Sequence[str], factor: float) -> tuple[list[Right], list[float]]:
        """Return the games that the agents' damages alone are differences of, and their factors."""
        games = [game for name in agents for game in self.alone[name]]
        return games, [factor, -factor] * len(agents)

    def _adds_up(self, agents: Sequence[str]) -> bool:
        return bool(agents) and not self.apart and all(name in self.alone for name in agents)


def in_points(found: Compared) -> Quantity:
    """Return a combined difference in points; without a value where there are no inputs."""
    if not found.inputs:
        return Quantity(value=None, unit=POINTS)
    value, low, high = (100 * end for end in found.interval)
    return Quantity(value=value, unit=POINTS, low=low, high=high)
