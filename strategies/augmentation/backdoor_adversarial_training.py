"""Backdoor adversarial training: the defender puts triggers of its own on rows with true labels.

S0 (Backdoors that backfire) A.2.6, after Geiping et al. 2021: "50% of the defender's allocation of
the dataset is assigned to backdoor perturbation, p, epsilon = 0.4, and 20 different backdoor
triggers used (i.e. allocation of defender's dataset for each backdoor trigger pattern is
(1 - 0.5) x 0.8 x 1/20)"; triggers are BadNet's. Labels are left open; "insert their own triggers to
existing labels" is read as true labels.

p is read as S0 reads it for attackers, as the share of the rows allotted to a trigger that carry it
(`poison_rate`). "for V_d = 0.8, 0.4 is clean, 0.4 is augmented" reads as if all of them did:
``poison_rate: 1``.

It is `agent_augmentation`, draws included, with S0's numbers and under S0's name. What Geiping et
al. do, new patches in each batch, is the hook `poison_patches`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from learning.method import one_of
from learning.pool import Pool
from learning.training.job import TrainingRequests
from learning.triggers.base import Trigger
from learning.triggers.random_badnet import RandomBadNet
from strategies.augmentation.agent_augmentation import AgentAugmentation
from strategies.base import Augmentation, Defender

if TYPE_CHECKING:
    AnyTrigger = Trigger
else:
    AnyTrigger = one_of(Trigger, "learning.triggers")


class BackdoorAdversarialTraining(Augmentation):
    """Stamps triggers on part of the defender's rows and keeps their labels; adds no row."""

    kind: Literal["backdoor_adversarial_training"] = "backdoor_adversarial_training"
    paper: ClassVar[str] = "S0, Datta et al., A.2.6, after Geiping et al. 2021"

    share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the defender's rows that is allotted to triggers, in equal parts "
        "(halves up).",
        json_schema_extra={"origin": "paper"},
    )
    triggers: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Number of different triggers; the report says how many are left without a "
        "row.",
        json_schema_extra={"origin": "paper"},
    )
    poison_rate: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Share of the rows allotted to triggers that carry theirs (p; halves up over "
        "all of them, then shared out by largest remainders); 1 for all.",
        json_schema_extra={"origin": "paper"},
    )
    trigger: AnyTrigger = Field(
        default_factory=lambda: RandomBadNet(epsilon=0.4),
        description="Family of the triggers.",
        json_schema_extra={"origin": "paper"},
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
        return (yield from self._same().augment(pool, defender))

    def remarks(self, before: Pool, after: Pool) -> tuple[str, ...]:
        """Say which triggers lie on no row, and which rows look as they did."""
        return self._same().remarks(before, after)

    def _same(self) -> AgentAugmentation:
        return AgentAugmentation(
            share=self.share,
            agents=self.triggers,
            poison_rate=self.poison_rate,
            trigger=self.trigger,
        )
