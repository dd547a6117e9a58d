"""Who takes part in which round of a federated game, by name.

It follows from the scenario alone: the same agents are sampled on every runtime and for every
defender, and an agent can tell how often it was sampled before without keeping count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from learning.method import kind_of
from learning.seeds import numpy_generator
from scenarios.federation import malicious_in_round, sampling_of

if TYPE_CHECKING:
    from scenarios.scenario import Scenario
    from scenarios.schema import AgentSpec


class Participation:
    """The participants of each round of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._names = [place.name for place in scenario.roster()]
        self._malicious = [place.group.malicious for place in scenario.roster()]
        self._rounds: dict[int, tuple[str, ...]] = {}

    def of(self, round: int) -> tuple[str, ...]:
        """Return the agents of a round (from 1), in scenario order."""
        if round not in self._rounds:
            chosen = sorted(self._drawn(round))
            self._rounds[round] = tuple(self._names[position] for position in chosen)
        return self._rounds[round]

    def cheats(self, place: AgentSpec, round: int) -> bool:
        """Return whether a malicious agent's window is open in a round that it is sampled for."""
        window = place.group.window
        if not window.first <= round <= (window.last or round):
            return False
        if window.times is None:
            return True
        earlier = sum(place.name in self.of(before) for before in range(window.first, round))
        return earlier < window.times

    def _drawn(self, round: int) -> list[int]:
        draw = numpy_generator(self._scenario.seed, "participation", round=round)
        count, share = self._scenario.sampled(), self._scenario.federation.malicious_share
        if share is None:
            return self._sampled(range(len(self._names)), count, round, draw)
        malicious = malicious_in_round(share, count)
        drawn: list[int] = []
        for cheats, some in ((True, malicious), (False, count - malicious)):
            among = [k for k, cheating in enumerate(self._malicious) if cheating is cheats]
            drawn += self._sampled(among, some, round, draw)
        return drawn

    def _sampled(
        self, among: Sequence[int], count: int, round: int, draw: np.random.Generator
    ) -> list[int]:
        """Return the positions of the agents that are sampled among some.

        Raises:
            ValueError: If a method of another package answers with others than these.
        """
        if not count:
            return []
        sampling = sampling_of(self._scenario.federation)
        drawn = [int(k) for k in sampling.draw(len(among), count, round, draw)]
        if (
            len(drawn) != count
            or not set(drawn) <= set(range(len(among)))
            or len(set(drawn)) < count
        ):
            raise ValueError(
                f"{kind_of(type(sampling))}: expected {count} different agents of "
                f"0..{len(among) - 1} in round {round}, got {drawn[:10]}"
            )
        return [among[k] for k in drawn]
