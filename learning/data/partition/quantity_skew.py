"""Quantity skew: shares of unequal size with labels as in the whole data set.

Q. Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022, section
4.1: the parties' shares of all rows are drawn from Dir(beta, ..., beta). There a draw that leaves
a party with fewer than ten rows is thrown away and drawn anew, which need not end; here such an
agent is topped up by those who have most. The power law is that of T. Li et al., "Federated
Optimization in Heterogeneous Networks", MLSys 2020, section 5.1, whose exponent is not printed.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from learning.data.partition.base import Partition, as_rows, need_rows
from learning.pool import Ints
from learning.shares import counts_of


class QuantitySkew(Partition):
    """Every row is dealt, uniformly; only the number of rows differs between agents."""

    kind: Literal["quantity_skew"] = "quantity_skew"
    paper: ClassVar[str] = "Li et al. 2022, ICDE, section 4.1; Li et al. 2020, MLSys, section 5.1"

    law: Literal["dirichlet", "power"] = Field(
        "dirichlet",
        description="`dirichlet`: shares of all rows are one draw of Dir(alpha, ..., alpha); "
        "`power`: the agent of rank k, from 1, has a share proportional to k^-exponent; who has "
        "which rank is drawn.",
        json_schema_extra={"origin": "paper"},
    )
    alpha: float = Field(
        0.5,
        ge=1e-3,
        le=1e6,
        description="Concentration of the Dirichlet law (the paper's beta); smaller is more "
        "skewed.",
        json_schema_extra={"origin": "paper"},
    )
    exponent: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Exponent of the power law; 0 is equal shares.",
        json_schema_extra={"origin": "ours"},
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
        ends = counts_of(np.cumsum(self._shares(agents, generator)), len(y))
        ends[-1] = len(y)  # the sum of the shares is 1 only up to rounding
        sizes = _top_up(np.diff(ends, prepend=0), self.min_rows)
        order = generator.permutation(len(y))
        return [as_rows(part) for part in np.split(order, np.cumsum(sizes)[:-1])]

    def _shares(self, agents: int, generator: np.random.Generator) -> NDArray[np.float64]:
        if self.law == "dirichlet":
            return generator.dirichlet(np.full(agents, self.alpha))
        weights = generator.permutation(np.arange(1.0, agents + 1) ** -self.exponent)
        return np.asarray(weights / weights.sum())


def _top_up(sizes: Ints, floor: int) -> Ints:
    """Return sizes of at least `floor`, moved one row at a time from whoever has most."""
    sizes = sizes.copy()
    for poor in np.flatnonzero(sizes < floor):
        while sizes[poor] < floor:
            sizes[np.argmax(sizes)] -= 1
            sizes[poor] += 1
    return sizes
