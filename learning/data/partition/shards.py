"""Pathological non-IID shares: rows sorted by label, cut into shards, a few shards each.

H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, section 3: MNIST in 200 shards of 300 rows, two for each of 100 clients.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.data.partition.base import Partition, as_rows, need_rows
from learning.pool import Ints


class Shards(Partition):
    """Rows sorted by label, cut into ``agents * shards`` shards, dealt at random.

    As in the paper, a shard can straddle two neighbouring classes, so that most agents, not all,
    see at most `shards` classes.
    """

    kind: Literal["shards"] = "shards"
    paper: ClassVar[str] = "McMahan et al. 2017, AISTATS, section 3"

    shards: int = Field(
        2,
        ge=1,
        le=10_000,
        description="Shards for each agent.",
        json_schema_extra={"origin": "paper"},
    )
    equal: bool = Field(
        True,
        description="Leave out the rows that do not divide, so that all shards are equal; false: "
        "the first shards get one row more.",
        json_schema_extra={"origin": "paper"},
    )

    def least(self, agents: int) -> int:
        """Return the rows of shards of one row each, and of agents of two."""
        return agents * max(2, self.shards)

    def split(self, y: Ints, agents: int, generator: np.random.Generator) -> list[Ints]:
        """Return for each agent the positions of its rows, ascending; see `Partition.split`."""
        need_rows(len(y), agents, max(2, self.shards))
        order = generator.permutation(len(y))
        if self.equal:  # which rows are left out is drawn
            order = order[: len(y) - len(y) % (agents * self.shards)]
        order = order[np.argsort(y[order], kind="stable")]
        pieces = np.array_split(order, agents * self.shards)
        hands = generator.permutation(agents * self.shards).reshape(agents, self.shards)
        return [as_rows(np.concatenate([pieces[i] for i in hand])) for hand in hands]
