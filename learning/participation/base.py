"""What decides which agents take part in a round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from learning.method import Method


class ClientSampling(Method):
    """Samples the agents of a round.

    How many is said by `share`, so that all rounds have as many; who is up to the method. It is
    asked again for the same round on other machines, and has to answer alike: all that it knows is
    given, and all draws come from the generator.
    """

    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the agents sampled for a round (halves up); at least one.",
        json_schema_extra={"origin": "ours"},
    )

    @abstractmethod
    def draw(
        self, agents: int, count: int, round: int, generator: np.random.Generator
    ) -> Sequence[int]:
        """Return who takes part, as positions in scenario order without repeats.

        With `federation.malicious_share` it is asked for the malicious agents and for the others
        apart, each in scenario order.

        Args:
            agents: How many there are.
            count: How many are wanted, 1..agents.
            round: From 1.
            generator: Of this round.
        """
