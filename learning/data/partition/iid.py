"""IID shares: rows are shuffled, then cut.

H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, section 3. S0 A.2.1: every attacker's share is (1 - V_d) / N of the joint data set.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.data.partition.base import Partition, as_rows, need_rows
from learning.pool import Ints


class IID(Partition):
    """Each agent gets a uniform sample of the rows."""

    kind: Literal["iid"] = "iid"
    paper: ClassVar[str] = "McMahan et al. 2017, AISTATS, section 3; S0 A.2.1"

    equal: bool = Field(
        True,
        description="Leave out the rows that do not divide, so that all shares are equal; false: "
        "the first agents get one row more.",
        json_schema_extra={"origin": "paper"},
    )

    def split(self, y: Ints, agents: int, generator: np.random.Generator) -> list[Ints]:
        """Return for each agent the positions of its rows, ascending; see `Partition.split`."""
        need_rows(len(y), agents)
        order = generator.permutation(len(y))
        if self.equal:
            order = order[: len(y) - len(y) % agents]
        return [as_rows(part) for part in np.array_split(order, agents)]
