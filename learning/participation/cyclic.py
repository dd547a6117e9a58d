"""Agents take part in turn, as where devices are free at their own time of the day.

Y. J. Cho et al., "On the convergence of federated averaging with cyclic client participation", ICML
2023: groups of clients are served one after the other, again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from learning.participation.base import ClientSampling


class Cyclic(ClientSampling):
    """The next agents in scenario order, from the first one again behind the last."""

    kind: Literal["cyclic"] = "cyclic"
    paper: ClassVar[str] = "Cho et al. 2023, ICML, cyclic client participation"

    def draw(
        self, agents: int, count: int, round: int, generator: np.random.Generator
    ) -> Sequence[int]:
        """Return the agents whose turn it is; see `ClientSampling.draw`."""
        return [((round - 1) * count + k) % agents for k in range(count)]
