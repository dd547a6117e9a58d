"""Agent augmentation: the defender simulates attackers on its own rows, with true labels.

S1 (Widen the backdoor) 4.2.1: "we allocate 40 % of the defender's contributed sub-dataset to be
clean, and the remaining 60 % of samples to be poisoned with defender-generated triggers", "one
per attacker", each simulated attacker getting "an equal amount of samples", and "we set the
poison rate of simulated attackers p = 0.2". S1 3.2 lets p be three rates at once: the share p_0
of an attacker's samples that is poisoned, and p_1, p_2, the extent of the trigger. With p_0 = 0.2
the clean part would be 88 %, not 40 %; so p_0 is read as 1 here (`poison_rate`; 0.2 gives the
other reading) and 0.2 as the density of the trigger.

The rows to stamp are counted over all simulated agents and then shared out, so that a small rate of
many small parts is not rounded away.

Backdoor adversarial training in S0 A.2.6 (after Geiping et al. 2021) is the same method with
other numbers: share 0.5, 20 agents, epsilon 0.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.method import one_of
from learning.pool import DEFENDER, Block, Floats, Ints, Pool
from learning.shares import apportioned, count_of
from learning.training.job import TrainingRequests
from learning.triggers.base import Trigger, TriggerKey
from learning.triggers.random_badnet import RandomBadNet
from strategies.base import Augmentation, Defender

if TYPE_CHECKING:
    AnyTrigger = Trigger
else:
    AnyTrigger = one_of(Trigger, "learning.triggers")

# Triggers may depend on an agent's position in its group. Simulated agents sit far behind every
# position that a scenario can give out, so that none is given a real agent's trigger.
FIRST_INDEX = 10_000_000


class AgentAugmentation(Augmentation):
    """Stamps simulated agents' triggers on part of the defender's rows and keeps their labels.

    No row is added; other contributors' rows stay as they are.
    """

    kind: Literal["agent_augmentation"] = "agent_augmentation"
    paper: ClassVar[str] = "S1, Datta et al., Widen the backdoor, 4.2.1 Agent Augmentation"

    share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Share of the defender's rows that is given to the simulated agents (halves "
        "up).",
        json_schema_extra={"origin": "paper"},
    )
    agents: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Number of simulated agents; each has a trigger of its own and an equal part. "
        "The report says how many are left without a row.",
        json_schema_extra={"origin": "ours"},
    )
    poison_rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the simulated agents' rows that carries a trigger (halves up over "
        "all of them, then shared out by largest remainders); 1 reads S1's '40 % clean', 0.2 its "
        "'poison rate of simulated attackers'.",
        json_schema_extra={"origin": "deduced"},
    )
    trigger: AnyTrigger = Field(
        default_factory=lambda: RandomBadNet(epsilon=0.2),
        description="Family of the simulated triggers; S1's p = 0.2 is taken as its density.",
        json_schema_extra={"origin": "deduced"},
    )

    @property
    def needs_own_rows(self) -> bool:
        """They are what it stamps."""
        return True

    def augment(self, pool: Pool, defender: Defender) -> TrainingRequests[Pool]:
        """Return the pool with the defender's block stamped.

        Raises:
            ValueError: If the defender has no rows left in the pool.
        """
        yield from ()  # a generator like all defences, but no model is needed
        block = _own_block(pool)
        kept = np.flatnonzero(~np.isin(block.ids, np.asarray(pool.removed, np.int64)))
        order = defender.numpy_generator("agent_augmentation").permutation(kept)
        sizes, stamped = self._counts(len(order))
        x, first = block.x.copy(), 0
        for index, (size, count) in enumerate(zip(sizes.tolist(), stamped.tolist(), strict=True)):
            self._stamp(x, order[first : first + count], index, defender)
            first += size
        return pool.with_block(Block(block.owner, block.first_id, x, block.y))

    def remarks(self, before: Pool, after: Pool) -> tuple[str, ...]:
        """Say which triggers lie on no row, and which rows look as they did."""
        old, new = _own_block(before), _own_block(after)
        stamped = self._counts(int(np.isin(old.ids, before.ids).sum()))[1]
        total, changed = int(stamped.sum()), int((old.x != new.x).any(axis=(1, 2, 3)).sum())
        idle = int((stamped == 0).sum()) if self.share * self.poison_rate > 0 else 0
        lines = []
        if idle:
            lines.append(
                f"augmentation: the rate stamps {total} of the defender's rows, so that {idle} of "
                f"{self.agents} triggers lie on none"
            )
        if changed < total:
            lines.append(
                f"augmentation: {total - changed} of {total} stamped rows look as they did: their "
                "trigger covers no pixel"
            )
        return tuple(lines)

    def _counts(self, rows: int) -> tuple[Ints, Ints]:
        """Return for each simulated agent its rows, of the defender's `rows`, and those stamped."""
        given = count_of(self.share, rows)
        sizes = apportioned(given, np.ones(self.agents, np.int64))
        return sizes, apportioned(count_of(self.poison_rate, given), sizes)

    def _stamp(self, x: Floats, rows: Ints, index: int, defender: Defender) -> None:
        if len(rows):
            name, position = f"{DEFENDER}/sim-{index + 1:03d}", FIRST_INDEX + index
            key = TriggerKey(defender.seed, name, f"{DEFENDER}/sim", position)
            x[rows] = self.trigger.draw(defender.shape, len(rows), key).stamp(x[rows])


def _own_block(pool: Pool) -> Block:
    if DEFENDER in pool.owners:
        block = pool.block(DEFENDER)
        if not np.isin(block.ids, np.asarray(pool.removed, np.int64)).all():
            return block
    raise ValueError(
        "agent_augmentation: expected rows of the defender in the pool, got none; "
        "set defender_share above 0"
    )
