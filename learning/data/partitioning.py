"""How the rows of a data set are dealt to the defender, the agents and the referee.

S0 section 2 and A.2.1, Figure 4: the defender holds the share V_d of the joint data set, the
agents hold the rest in equal parts; each agent contributes most of its part and keeps some rows
for run time. Everything here depends on the arguments alone, so that each party can deal for
itself and agree with all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from learning.data.base import DataError, DataSet, DataSource
from learning.data.partition.base import Partition, as_rows
from learning.data.rows import rows_in_play
from learning.pool import DEFENDER, Floats, Ints
from learning.seeds import numpy_generator
from learning.shares import Rounding, count_of


@dataclass(frozen=True, eq=False)
class Partitioning:
    """What each party gets, as positions into one table of training rows.

    Attributes:
        data: The rows in play: `x_train` is the table that positions refer to, `x_test` the
            referee's test set.
        defender: Positions of the defender's rows, ascending, int64 (V,).
        shares: For each agent, in scenario order, the positions of its rows, ascending.
        run_time_share: Share of an agent's rows that it keeps for run time.
    """

    data: DataSet
    defender: Ints
    shares: dict[str, Ints]
    run_time_share: float

    @property
    def x(self) -> Floats:
        """The table: all training inputs, float32 (n, C, H, W). Not to be written to."""
        return self.data.x_train

    @property
    def y(self) -> Ints:
        """Labels of the table, int64 (n,)."""
        return self.data.y_train

    @property
    def test_x(self) -> Floats:
        """The referee's test inputs, float32 (m, C, H, W)."""
        return self.data.x_test

    @property
    def test_y(self) -> Ints:
        """Labels of the test inputs, int64 (m,)."""
        return self.data.y_test

    @cached_property
    def registered(self) -> dict[str, tuple[int, int]]:
        """For each agent the id of its first contributed row and the number of those rows.

        The defender's rows have the ids 0..V-1; the agents' follow in scenario order.
        """
        ids: dict[str, tuple[int, int]] = {}
        first = len(self.defender)
        for agent, rows in self.shares.items():
            count = contributed_rows(len(rows), self.run_time_share)
            ids[agent] = (first, count)
            first += count
        return ids

    def first_ids(self) -> dict[str, int]:
        """Return the id of the first row of the defender and of each agent."""
        return {DEFENDER: 0} | {agent: first for agent, (first, _) in self.registered.items()}


def deal(
    source: DataSource,
    *,
    agents: Sequence[str],
    private: Mapping[str, int] | None = None,
    defender_share: float,
    partition: Partition,
    run_time_share: float,
    seed: int,
) -> Partitioning:
    """Load a data set and deal it.

    The test set and the subsets of `train_rows` and `test_rows` keep each class in proportion;
    the defender's share is a uniform sample; the rest goes to the agents as `partition` says.

    Args:
        source: The data set, with its fields for merging and sampling.
        agents: Names, in scenario order.
        private: Rows that some of them hold elsewhere; their shares are positions beyond the table,
            which nobody reads.
        defender_share: V_d, the defender's share of all training rows, in [0, 1).
        partition: How the rest is split.
        run_time_share: Share of each agent's rows kept for run time, in (0, 1).
        seed: The game's seed.

    Raises:
        DataError: If the data set cannot be read or has too few rows; one line.
        ValueError: If there are no agents, or their names repeat.
    """
    if not agents or len(set(agents)) < len(agents) or DEFENDER in agents:
        raise ValueError(f"expected agents with different names, none of them {DEFENDER!r}")
    data = rows_in_play(source, seed)
    rows = len(data.y_train)
    order = numpy_generator(seed, "deal/defender").permutation(rows)
    held = count_of(defender_share, rows)
    defender, rest = as_rows(order[:held]), as_rows(order[held:])
    elsewhere = dict(private or {})
    shares = _shares(data, [a for a in agents if a not in elsewhere], rest, partition, seed, held)
    first = rows
    for agent, count in elsewhere.items():
        shares[agent] = np.arange(first, first + count, dtype=np.int64)
        first += count
    return Partitioning(data, defender, {agent: shares[agent] for agent in agents}, run_time_share)


def _shares(
    data: DataSet, agents: Sequence[str], rest: Ints, partition: Partition, seed: int, held: int
) -> dict[str, Ints]:
    """Deal the rows that the defender does not hold."""
    if not agents:
        return {}
    try:
        parts = partition.split(
            data.y_train[rest], len(agents), numpy_generator(seed, "deal/partition")
        )
    except ValueError as error:
        raise DataError(
            f"expected enough rows for the agents: {error} (of {len(data.y_train)} training rows "
            f"the defender holds {held})"
        ) from error
    _check_parts(parts, len(agents), len(rest), partition)
    return {agent: rest[part] for agent, part in zip(agents, parts, strict=True)}


def split_share(rows: Ints, run_time_share: float, seed: int, agent: str) -> tuple[Ints, Ints]:
    """Split an agent's rows into those it contributes and those it keeps for run time.

    S0 A.2.2: 80 % and 20 %. Drawn by the agent's own generator; at least one row on each side.

    Returns:
        Positions to contribute and positions kept, each ascending.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    count = contributed_rows(len(rows), run_time_share)
    order = numpy_generator(seed, "deal/run_time", agent=agent).permutation(rows)
    return as_rows(order[:count]), as_rows(order[count:])


def contributed_rows(share_size: int, run_time_share: float) -> int:
    """Return how many rows of a share are contributed; the rest, at least one, is kept.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    if share_size < 2:
        raise ValueError(f"expected a share of at least 2 rows, got {share_size}")
    kept = min(max(count_of(run_time_share, share_size), 1), share_size - 1)
    return share_size - kept


def reference_share(total_rows: int, defender_share: float, reference_agents: int) -> float:
    """Return the rows that each of `reference_agents` agents would hold: (1 - V_d) n / N.

    S0 A.2.1 holds an attacker's number of poisoned rows constant by taking N at its largest.

    Args:
        total_rows: Rows of the joint data set, the defender's included.
        defender_share: V_d.
        reference_agents: N.
    """
    return (1 - defender_share) * total_rows / reference_agents


def poison_count(rate: float, rows: float, *, rounding: Rounding | str = "nearest") -> int:
    """Return how many rows a poison rate means (S0 A.2.1: rho n = (1 - V_d) p n / N).

    Args:
        rate: Poison rate p in [0, 1].
        rows: Rows that the rate refers to; may be fractional (`reference_share`).
        rounding: ``nearest`` (halves up), ``floor`` or ``ceil``.

    Raises:
        ValueError: If the rounding is none of these.
    """
    return count_of(rate, rows, rounding=rounding)


def _check_parts(parts: list[Ints], agents: int, rows: int, partition: Partition) -> None:
    """Check what every partition promises; plug-ins are no exception."""
    together = [np.concatenate(parts)] if parts and partition.disjoint else parts
    sound = (
        len(parts) == agents
        and min(map(len, parts), default=0) >= 2
        and all(len(np.unique(part)) == len(part) for part in together)
        and min(int(part.min()) for part in parts) >= 0
        and max(int(part.max()) for part in parts) < rows
    )
    if not sound:
        raise TypeError(
            f"{type(partition).__name__} must deal {agents}{' disjoint' * partition.disjoint} "
            f"shares of at least 2 of {rows} rows each"
        )
