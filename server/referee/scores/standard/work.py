"""What a defence costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import Quantity
from server.referee.scores.base import AMOUNT, NO_INTERVAL, Bounds, Computed, DefenderScore

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts


class Work(DefenderScore):
    """Trainings that a defender needs by itself."""

    kind: Literal["work"] = "work"
    definition: ClassVar[str] = (
        "trainings that the defender needs by itself, in units of one full training"
    )
    head: ClassVar[str] = "work"
    interval: ClassVar[str] = NO_INTERVAL
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = AMOUNT
    unit: ClassVar[str] = "trainings"
    rank: ClassVar[int] = 61
    headline: ClassVar[bool] = False

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        if facts.predictor is None:
            return None
        return Quantity(value=facts.predictor.work, unit=self.unit)
