"""Agents are sampled uniformly, anew in each round (McMahan et al. 2017, AISTATS, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from learning.participation.base import ClientSampling


class Uniform(ClientSampling):
    """Every set of agents is as likely; what a bare number in `federation.participation` means."""

    kind: Literal["uniform"] = "uniform"
    paper: ClassVar[str] = "McMahan et al. 2017, AISTATS, Algorithm 1"

    def draw(
        self, agents: int, count: int, round: int, generator: np.random.Generator
    ) -> Sequence[int]:
        """Return a sample without replacement; see `ClientSampling.draw`."""
        return [int(k) for k in generator.choice(agents, count, replace=False)]
