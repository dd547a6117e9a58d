"""Overlapping shares: each agent draws its rows by itself.

For games with more agents than the data set has rows for, such as 1,000 agents on 1,797 digits.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.data.partition.base import Partition, as_rows, need_rows
from learning.pool import Ints


class Sampled(Partition):
    """Each agent gets a uniform sample of fixed size, independent of all other agents' samples.

    Two agents may hold the same row, and what one keeps for run time another may contribute: clean
    run-time accuracies are flattered by that, and attack success is measured on images whose clean
    version the model may have seen.
    """

    kind: Literal["sampled"] = "sampled"
    paper: ClassVar[str] = "ours"
    disjoint: ClassVar[bool] = False

    rows: int = Field(
        20,
        ge=2,
        le=10_000_000,
        description="Rows of each agent, all different.",
        json_schema_extra={"origin": "ours"},
    )

    def least(self, agents: int) -> int:
        """Return `rows`: every agent may have the same."""
        return self.rows

    def split(self, y: Ints, agents: int, generator: np.random.Generator) -> list[Ints]:
        """Return for each agent the positions of its rows, ascending; see `Partition.split`."""
        need_rows(len(y), 1, self.rows)
        return [as_rows(generator.choice(len(y), self.rows, replace=False)) for _ in range(agents)]
