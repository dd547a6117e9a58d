"""Accuracy under attacks on inputs at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import ScoreValue
from server.referee.scores.base import Computed, DefenderScore

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts
    from server.referee.results import DefenderScores, GameResult


class AdversarialAccuracy(DefenderScore):
    """Accuracy under each attack on inputs of the scenario."""

    kind: Literal["adversarial_accuracy"] = "adversarial_accuracy"
    definition: ClassVar[str] = (
        "clean test inputs that are right and stay right under the named attack on inputs"
    )
    head: ClassVar[str] = "adversarial accuracy"
    higher_is_better: ClassVar[bool | None] = True
    prefix: ClassVar[str] = "adversarial"
    rank: ClassVar[int] = 42
    headline: ClassVar[bool] = False

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return facts.under_attack

    def of_defender(self, scores: DefenderScores, result: GameResult) -> Mapping[str, ScoreValue]:
        """See `DefenderScore.of_defender`."""
        found = scores.adversarial_accuracy.items()
        return {f"{self.prefix}:{attack}": score for attack, score in found}
