"""What a filter of a pooled game removed, against the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import FilterScores, Quantity, ScoreValue
from server.referee.scores.base import Computed, DefenderScore
from server.referee.scoring.scores import share

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts
    from server.referee.results import DefenderScores, GameResult


class FilterJudgement(DefenderScore):
    """Precision, recall, AUROC and both kinds of error of each filter of a defender."""

    kind: Literal["filter"] = "filter"
    definition: ClassVar[str] = (
        "of each filter: precision, poisoned rows among those removed; recall, removed rows among "
        "those poisoned; auroc, of its suspicion scores; false_positives, clean rows of the pool "
        "that it saw which it removed; false_negatives, poisoned rows that it kept"
    )
    head: ClassVar[str] = "filter"
    rank: ClassVar[int] = 60
    headline: ClassVar[bool] = False

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        return _parts(facts.filters, facts.rows) or None

    def of_defender(self, scores: DefenderScores, result: GameResult) -> Mapping[str, ScoreValue]:
        """See `DefenderScore.of_defender`."""
        rows = result.rows.get("defender", 0) + result.rows["agents"]
        parts = _parts(scores.filters, rows)
        return {f"{self.title}:{which}": value for which, value in parts.items()}


def _parts(filters: tuple[FilterScores, ...], rows: int) -> dict[str, ScoreValue]:
    """Return the scores of filters, the first of which sees `rows` rows."""
    found: dict[str, ScoreValue] = {}
    seen: Counter[str] = Counter()
    for one in filters:
        seen[one.kind] += 1
        name = one.kind + (f"#{seen[one.kind]}" if seen[one.kind] > 1 else "")
        wrong, missed = one.removed - one.true_positives, one.poisoned - one.true_positives
        found |= {
            f"{name}:precision": one.precision,
            f"{name}:recall": one.recall,
            f"{name}:false_positives": share(wrong, rows - one.poisoned),
            f"{name}:false_negatives": share(missed, one.poisoned),
            f"{name}:auroc": Quantity(value=one.auroc),
        }
        rows -= one.removed
    return found
