"""What only the referee holds, and the control games that it builds from it.

Nothing here is reachable from the pool of the attacked game: the clean versions of poisoned rows
live in blocks of their own, which only the control games' pools refer to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from learning.pool import Block, Bools, Floats, Ints, Pool


@dataclass(frozen=True, eq=False)
class RunTimeSet:
    """The part of an agent's data that it kept for run time.

    Attributes:
        agent: Its name.
        x: Clean inputs, float32 (m, C, H, W), in [0, 1].
        y: True labels, int64 (m,).
        x_triggered: What is to set its backdoor off, float32 (k, C, H, W): the same inputs with
            the trigger, or some of them, or no rows at all for an agent without a backdoor.
        targets: What each triggered input should be predicted as, int64, as long as
            `x_triggered`.
        target: The one target of an all-to-one backdoor, else None.
        source: The source class of a source-to-target backdoor, else None.
        x_part: The triggered inputs with the agent's own part of the trigger alone, as many as
            `x_triggered`; None for an agent that trains a whole trigger.
        run_rows: Of which clean input each triggered one was made, ascending positions without
            repeats, int64 (k,); None: of each, in order.
    """

    agent: str
    x: Floats
    y: Ints
    x_triggered: Floats
    targets: Ints
    target: int | None = None
    source: int | None = None
    x_part: Floats | None = None
    run_rows: Ints | None = None

    def __post_init__(self) -> None:
        rows, triggered = len(self.x), len(self.x_triggered)
        possible = (0, rows) if self.run_rows is None else (len(self.run_rows),)
        if len(self.y) != rows or triggered not in possible or len(self.targets) != triggered:
            raise ValueError(
                f"expected one label for each of {self.agent!r}'s {rows} run-time inputs and one "
                f"triggered version of each or none (or of each row told), got {len(self.y)} "
                f"labels, {triggered} triggered inputs, {len(self.targets)} targets"
            )
        if not ascending(self.triggered_rows, rows):
            raise ValueError(
                f"expected ascending positions below {rows} as the rows of {self.agent!r}'s "
                "triggered inputs"
            )
        if self.x_part is not None and len(self.x_part) != triggered:
            raise ValueError(
                f"expected each of {self.agent!r}'s {triggered} triggered inputs with a part of "
                f"the trigger, got {len(self.x_part)}"
            )

    @property
    def triggered_rows(self) -> Ints:
        """Of which clean input each triggered one was made, int64 (k,)."""
        return np.arange(len(self.targets)) if self.run_rows is None else self.run_rows

    @property
    def y_triggered(self) -> Ints:
        """The true labels of the triggered inputs, int64 (k,)."""
        return self.y[self.triggered_rows]

    @property
    def counted(self) -> Bools:
        """Which triggered inputs `asr` counts: true label is not the target; bool (k,)."""
        return np.asarray(self.y_triggered != self.targets)

    @property
    def unchanged(self) -> bool:
        """Whether the triggered inputs are clean ones: a backdoor without a trigger."""
        return np.array_equal(self.x_triggered, self.x[self.triggered_rows])


def ascending(rows: Ints, limit: int) -> bool:
    """Return whether `rows` are ascending positions in 0..limit - 1 without repeats."""
    ends_fit = not len(rows) or bool(rows[0] >= 0 and rows[-1] < limit)
    # Compared, not subtracted: differences of hostile numbers could overflow.
    return ends_fit and bool((rows[1:] > rows[:-1]).all())


@dataclass(frozen=True, eq=False)
class Truth:
    """What an agent's contribution was before the agent touched it.

    Attributes:
        poisoned: Which contributed rows were changed, bool (n,).
        clean_x: Those rows' true inputs, in order, float32 (poisoned.sum(), C, H, W).
        clean_y: Their true labels, int64 (poisoned.sum(),).
    """

    poisoned: Bools
    clean_x: Floats
    clean_y: Ints

    def __post_init__(self) -> None:
        rows = int(self.poisoned.sum())
        if self.poisoned.dtype != np.bool_ or not rows == len(self.clean_x) == len(self.clean_y):
            raise ValueError(
                f"expected the clean version of each of {rows} poisoned rows, got "
                f"{len(self.clean_x)} inputs and {len(self.clean_y)} labels"
            )


@dataclass(frozen=True, eq=False)
class Sealed:
    """All that is the referee's alone.

    Attributes:
        run_time: Run-time sets by agent, of admitted sets only.
        truth: The truth about contributions, by agent.
        test_x: Clean test inputs, float32 (n, C, H, W).
        test_y: Their labels, int64 (n,).
    """

    run_time: Mapping[str, RunTimeSet]
    truth: Mapping[str, Truth]
    test_x: Floats
    test_y: Ints


@dataclass(frozen=True, eq=False)
class Worlds:
    """The attacked pool, and the pools of its control games.

    Blocks are shared by identity between all of them: an agent has at most two, the one that it
    contributed and its clean version, so whoever uploads or hashes blocks does it once.

    Attributes:
        pool: The attacked pool.
        clean: The clean versions of the blocks with poisoned rows, by agent.
    """

    pool: Pool
    clean: Mapping[str, Block] = field(repr=False)

    @classmethod
    def build(cls, pool: Pool, truth: Mapping[str, Truth]) -> Worlds:
        """Make the clean version of each block that has poisoned rows, once."""
        clean = {
            block.owner: _cleaned(block, truth[block.owner])
            for block in pool.blocks
            if block.owner in truth and truth[block.owner].poisoned.any()
        }
        return cls(pool, clean)

    def attacker_free(self) -> Pool:
        """Return the pool in which every poisoned row is its clean self."""
        return self._poisoned_by(frozenset())

    def alone(self, agent: str) -> Pool:
        """Return the pool in which `agent` alone poisons."""
        return self._poisoned_by(frozenset((agent,)))

    def _poisoned_by(self, agents: frozenset[str]) -> Pool:
        if agents >= self.clean.keys():
            return self.pool
        blocks = tuple(
            block if block.owner in agents else self.clean.get(block.owner, block)
            for block in self.pool.blocks
        )
        return replace(self.pool, blocks=blocks)


def _cleaned(block: Block, truth: Truth) -> Block:
    if len(truth.poisoned) != len(block.y):
        raise ValueError(
            f"expected the truth about {len(block.y)} rows of {block.owner!r}, got "
            f"{len(truth.poisoned)}"
        )
    x, y = block.x.copy(), block.y.copy()
    x[truth.poisoned], y[truth.poisoned] = truth.clean_x, truth.clean_y
    return replace(block, x=x, y=y)


def attacker_free(pool: Pool, sealed: Sealed) -> Pool:
    """Return `pool` with every poisoned row back to its clean version; see `Worlds`."""
    return Worlds.build(pool, sealed.truth).attacker_free()


def alone(pool: Pool, sealed: Sealed, agent: str) -> Pool:
    """Return `pool` with every poisoned row clean but those of `agent`; see `Worlds`."""
    return Worlds.build(pool, sealed.truth).alone(agent)
