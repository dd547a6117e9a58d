"""Label skew: each class is spread over the agents by a Dirichlet draw.

M. Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", ICML 2019,
section 4; Q. Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study",
ICDE 2022, section 4.1. There a draw that leaves an agent with too few rows is thrown away and
drawn anew, which need not end; here such an agent is topped up by those who have most.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.data.partition.base import Partition, as_rows, need_rows
from learning.pool import Ints
from learning.shares import counts_of


class Dirichlet(Partition):
    """For each class, the agents' shares of its rows are drawn from Dir(alpha, ..., alpha).

    Every row is dealt. A small `alpha` gives each agent few classes and unequal numbers of rows,
    a large one nears IID.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    paper: ClassVar[str] = "Yurochkin et al. 2019, ICML; Li et al. 2022, ICDE, section 4.1"

    alpha: float = Field(
        0.5,
        ge=1e-3,
        le=1e6,
        description="Concentration; smaller is more skewed.",
        json_schema_extra={"origin": "paper"},
    )
    min_rows: int = Field(
        10,
        ge=2,
        le=1_000_000,
        description="Rows that each agent has at least.",
        json_schema_extra={"origin": "code"},
    )

    def split(self, y: Ints, agents: int, generator: np.random.Generator) -> list[Ints]:
        """Return for each agent the positions of its rows, ascending; see `Partition.split`."""
        need_rows(len(y), agents, self.min_rows)
        owner = np.zeros(len(y), np.int64)
        for label in np.unique(y):
            rows = generator.permutation(np.flatnonzero(y == label))
            shares = generator.dirichlet(np.full(agents, self.alpha))
            cuts = counts_of(np.cumsum(shares)[:-1], len(rows), rounding="floor")  # as their code
            owner[rows] = np.searchsorted(cuts, np.arange(len(rows)), side="right")
        _top_up(owner, agents, self.min_rows, generator)
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=agents))[:-1]
        return [as_rows(part) for part in np.split(order, ends)]


def _top_up(owner: Ints, agents: int, floor: int, generator: np.random.Generator) -> None:
    """Move random rows, one at a time, from whoever has most to agents under `floor`."""
    counts = np.bincount(owner, minlength=agents)
    stacks: dict[int, list[int]] = {}
    for poor in np.flatnonzero(counts < floor):
        while counts[poor] < floor:
            rich = int(np.argmax(counts))
            if rich not in stacks:
                stacks[rich] = generator.permutation(np.flatnonzero(owner == rich)).tolist()
            owner[stacks[rich].pop()] = poor
            counts[rich] -= 1
            counts[poor] += 1
