"""Which honest agents a rule keeps out of a federated game."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from server.referee.scores.base import Computed, DefenderScore
from server.referee.scoring.scores import share

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts


class HonestAgentsRemoved(DefenderScore):
    """Honest agents that a rule removes more often than not."""

    kind: Literal["honest_agents_removed"] = "honest_agents_removed"
    definition: ClassVar[str] = (
        "honest agents whose update the rule removed in more than the given share (in %) of the "
        "rounds in which it judged them, among all honest agents that it judged; none of rules "
        "that remove nobody"
    )
    head: ClassVar[str] = "honest agents removed"
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 122
    on_card: ClassVar[bool] = True

    above: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of its judged rounds above which an agent counts as removed; 0: once "
        "is enough.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def title(self) -> str:
        """See `ScoreMethod.title`: ``honest_agents_removed:50`` for a share of 0.5."""
        return f"{self.kind}:{100 * self.above:g}"

    def compute(self, facts: DefenderFacts) -> Computed:
        """See `DefenderScore.compute`."""
        if facts.detection is None or facts.detection.removed is None:
            return None
        honest = {record.name for record in facts.roster if not record.malicious}
        judged = [own for name, own in facts.detection.by_agent.items() if name in honest]
        out = sum((own.removed or 0) > self.above * own.judged for own in judged)
        return share(out, len(judged))
