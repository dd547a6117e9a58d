"""Accuracy on clean test inputs, with the attackers, without them, and of a constant answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from server.referee.results import Quantity
from server.referee.scores.base import GAP, NO_INTERVAL, PAIRED, Bounds, Computed, DefenderScore
from server.referee.scoring.accuracy import clean_accuracy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.referee.facts import DefenderFacts
    from server.referee.results import DefenderScores, GameResult, ScoreValue


class CleanAccuracy(DefenderScore):
    """Clean accuracy in the attacked game."""

    kind: Literal["clean_accuracy"] = "clean_accuracy"
    definition: ClassVar[str] = (
        "clean test inputs predicted as their true label; where models differ by "
        "asking agent, the mean over all asking agents"
    )
    head: ClassVar[str] = "clean accuracy"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 10
    on_card: ClassVar[bool] = True

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return clean_accuracy(facts.test, facts.y)


class CleanAccuracyAttackerFree(DefenderScore):
    """Clean accuracy in the game without attackers."""

    kind: Literal["clean_accuracy_attacker_free"] = "clean_accuracy_attacker_free"
    definition: ClassVar[str] = (
        "clean_accuracy of the same defender in the game without attackers, asked for by those "
        "that attack in the other"
    )
    head: ClassVar[str] = "clean accuracy without attackers"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 11
    on_card: ClassVar[bool] = True

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return None if facts.test_free is None else clean_accuracy(facts.test_free, facts.y)


class ConstantAccuracy(DefenderScore):
    """What a model reaches that always gives the same answer."""

    kind: Literal["constant_accuracy"] = "constant_accuracy"
    definition: ClassVar[str] = (
        "clean accuracy of the best constant answer: the share of the most frequent class among "
        "the test inputs"
    )
    head: ClassVar[str] = "constant accuracy"
    interval: ClassVar[str] = NO_INTERVAL
    rank: ClassVar[int] = 13
    headline: ClassVar[bool] = False
    on_card: ClassVar[bool] = True

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        if not len(facts.y):
            return None
        return Quantity(value=float(np.bincount(facts.y).max() / len(facts.y)))


class Damage(DefenderScore):
    """Clean accuracy that the attackers cost."""

    kind: Literal["damage"] = "damage"
    definition: ClassVar[str] = (
        "clean accuracy lost against the game without attackers, test input by test input, asked "
        "for by the malicious agents where models differ by asking agent"
    )
    head: ClassVar[str] = "damage"
    interval: ClassVar[str] = PAIRED
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = GAP
    rank: ClassVar[int] = 12
    headline: ClassVar[bool] = False

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return facts.lost

    def of_defender(self, scores: DefenderScores, result: GameResult) -> Mapping[str, ScoreValue]:
        """Return the damage to a defender that agents aim at, None of others.

        Sweeps hold it of games whose attackers mean it; in all others it would be one column more
        that tells what the two accuracies tell.
        """
        aimed = any(agent.admitted and agent.damages for agent in result.roster)
        return super().of_defender(scores, result) if aimed else {}
