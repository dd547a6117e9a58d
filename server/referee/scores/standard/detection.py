"""How well a rule of a federated game tells who cheats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import DetectionScores, Quantity, ScoreValue
from server.referee.scores.base import NO_INTERVAL, Computed, DefenderScore
from server.referee.scoring.scores import share

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts
    from server.referee.results import DefenderScores, GameResult


class _OfDetection(DefenderScore):
    """A score of what a rule made of the updates of all rounds that it judged."""

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return None if facts.detection is None else self.judged(facts.detection)

    def judged(self, found: DetectionScores) -> ScoreValue | None:
        """Return the score of what a rule made of the updates; None where it has none."""
        raise NotImplementedError

    def of_defender(self, scores: DefenderScores, result: GameResult) -> Mapping[str, ScoreValue]:
        """See `DefenderScore.of_defender`."""
        value = None if scores.detection is None else self.judged(scores.detection)
        return {} if value is None else {self.title: value}


class DetectionPrecision(_OfDetection):
    """Cheating updates among those removed."""

    kind: Literal["detection_precision"] = "detection_precision"
    definition: ClassVar[str] = (
        "updates of agents that cheat in their round, among the admitted "
        "updates that the rule removed; summed over rounds, which are not independent of each other"
    )
    head: ClassVar[str] = "detection precision"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 50
    headline: ClassVar[bool] = False

    def judged(self, found: DetectionScores) -> ScoreValue | None:
        """See `_OfDetection.judged`."""
        return found.precision


class DetectionRecall(_OfDetection):
    """Removed updates among the cheating ones."""

    kind: Literal["detection_recall"] = "detection_recall"
    definition: ClassVar[str] = (
        "updates that the rule removed, among the admitted ones of agents that "
        "cheat in their round; summed over rounds, which are not independent of each other"
    )
    head: ClassVar[str] = "detection recall"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 51
    headline: ClassVar[bool] = False

    def judged(self, found: DetectionScores) -> ScoreValue | None:
        """See `_OfDetection.judged`."""
        return found.recall


class DetectionAUROC(_OfDetection):
    """How well the rule's weights or choices put cheating updates last."""

    kind: Literal["detection_auroc"] = "detection_auroc"
    definition: ClassVar[str] = (
        "pairs of a cheating and another update of the same round in which the "
        "rule gives the cheating one less weight, ties counted half; of one agent: the pairs with "
        "it in them"
    )
    head: ClassVar[str] = "detection AUROC"
    interval: ClassVar[str] = NO_INTERVAL
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 52
    headline: ClassVar[bool] = False

    def judged(self, found: DetectionScores) -> ScoreValue | None:
        """See `_OfDetection.judged`."""
        return Quantity(value=found.auroc)


class HonestRemoved(_OfDetection):
    """Updates that a rule should have taken."""

    kind: Literal["honest_removed"] = "honest_removed"
    definition: ClassVar[str] = (
        "updates that the rule removed, among the admitted ones of agents that do not cheat in "
        "their round; summed over rounds"
    )
    head: ClassVar[str] = "honest removed"
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 53
    headline: ClassVar[bool] = False
    on_card: ClassVar[bool] = True

    def judged(self, found: DetectionScores) -> ScoreValue | None:
        """See `_OfDetection.judged`."""
        if found.removed is None or found.true_positives is None:
            return None
        return share(found.removed - found.true_positives, found.updates - found.cheating)
