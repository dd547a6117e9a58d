"""Accuracy on the rows of the pool that a defender's training held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.scores.base import Computed, DefenderScore
from server.referee.scoring.accuracy import validation_accuracy

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts


class ValidationAccuracy(DefenderScore):
    """What a defender itself takes for its accuracy."""

    kind: Literal["validation_accuracy"] = "validation_accuracy"
    definition: ClassVar[str] = (
        "rows of the pool that the defender's training held out, poisoned ones "
        "too, predicted as their label in the pool (what S0 calls the defender's validation "
        "accuracy)"
    )
    head: ClassVar[str] = "validation accuracy"
    rank: ClassVar[int] = 40
    headline: ClassVar[bool] = False

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return None if facts.predictor is None else validation_accuracy(facts.predictor)
