"""Clean accuracy class by class: what a mean over all classes hides."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import Score
from server.referee.scores.base import Computed, DefenderScore
from server.referee.scoring.accuracy import clean_hits
from server.referee.scoring.scores import share

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts


class ClassAccuracy(DefenderScore):
    """Clean accuracy of each class, a score for each."""

    kind: Literal["class_accuracy"] = "class_accuracy"
    definition: ClassVar[str] = (
        "clean test inputs of one class predicted as that class; where models differ by asking "
        "agent, the mean over all asking agents"
    )
    head: ClassVar[str] = "accuracy of class"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 100
    headline: ClassVar[bool] = False

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return by_class(facts)


class WorstClassAccuracy(DefenderScore):
    """Clean accuracy of the class that is served worst."""

    kind: Literal["worst_class_accuracy"] = "worst_class_accuracy"
    definition: ClassVar[str] = (
        "the least of the clean accuracies of the classes that have test inputs; its interval is "
        "that of this class, and does not allow for the choice of the worst"
    )
    head: ClassVar[str] = "worst class accuracy"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 101
    on_card: ClassVar[bool] = True

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        found = [score for score in by_class(facts).values() if score.value is not None]
        return min(found, key=lambda score: (score.value, score.low), default=None)


def by_class(facts: DefenderFacts) -> dict[str, Score]:
    """Return the clean accuracy of each class by its name; of no count where it has no inputs."""
    hits = clean_hits(facts.test, facts.y)
    found = {}
    for label, name in enumerate(facts.class_names):
        own = hits[facts.y == label]
        found[name] = share(min(float(own.sum()), len(own)), len(own))
    return found
