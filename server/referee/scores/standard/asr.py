"""Attack success rates: which triggered inputs are predicted as the attacker wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from server.referee.results import GroupValue, Score, ScoreValue
from server.referee.scores.base import BackdoorScore, Computed
from server.referee.scoring.scores import share_of, summary

if TYPE_CHECKING:
    from server.referee.facts import AgentFacts, GroupFacts


def over_everybody(values: Sequence[ScoreValue]) -> GroupValue:
    """Return a summary even where no agent has the score: a group of attackers always has one."""
    return summary([value for value in values if isinstance(value, Score)])


class AttackSuccess(BackdoorScore):
    """Attack success rate; inputs of the target class are left out."""

    kind: Literal["asr"] = "asr"
    definition: ClassVar[str] = (
        "triggered run-time inputs whose true label is not the target, predicted as the target"
    )
    head: ClassVar[str] = "ASR"
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 20
    on_card: ClassVar[bool] = True
    ranked: ClassVar[bool] = True
    tells_of_attacks: ClassVar[bool] = True

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        return share_of(facts.hits.together[0])

    def combine(self, values: Sequence[ScoreValue], group: GroupFacts) -> GroupValue | None:
        """See `AgentScore.combine`."""
        return over_everybody(values)


class AttackSuccessOfAll(BackdoorScore):
    """Attack success rate over all triggered inputs."""

    kind: Literal["asr_all"] = "asr_all"
    definition: ClassVar[str] = (
        "triggered run-time inputs predicted as the target, whatever their true label "
        "(what S0 and S1 print)"
    )
    head: ClassVar[str] = "ASR all"
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 21
    on_card: ClassVar[bool] = True
    ranked: ClassVar[bool] = True
    tells_of_attacks: ClassVar[bool] = True

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        return share_of(np.asarray(facts.answers.triggered == facts.run_time.targets))

    def combine(self, values: Sequence[ScoreValue], group: GroupFacts) -> GroupValue | None:
        """See `AgentScore.combine`."""
        return over_everybody(values)


class AttackSuccessFromSource(BackdoorScore):
    """Attack success rate from the source class."""

    kind: Literal["asr_source"] = "asr_source"
    definition: ClassVar[str] = (
        "source-class run-time inputs that are right when clean and predicted as the "
        "target when triggered, among all source-class run-time inputs that are triggered (S2); "
        "not scored where the triggered inputs are clean ones (edge_case)"
    )
    head: ClassVar[str] = "ASR source"
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 22
    on_card: ClassVar[bool] = True
    ranked: ClassVar[bool] = True
    tells_of_attacks: ClassVar[bool] = True

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        own, answers = facts.run_time, facts.answers
        if own.source is None or own.unchanged:
            return None
        right = answers.clean[own.triggered_rows] == own.y_triggered
        hits = right & (answers.triggered == own.targets)
        return share_of(np.asarray(hits[own.y_triggered == own.source]))


class AttackSuccessOfPart(BackdoorScore):
    """Attack success rate of the agent's own part of a trigger."""

    kind: Literal["asr_part"] = "asr_part"
    definition: ClassVar[str] = (
        "asr of the same inputs with the agent's own part of the trigger alone, where the "
        "agents of its group train a part each and asr is that of the whole (DBA)"
    )
    head: ClassVar[str] = "ASR part"
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 23
    headline: ClassVar[bool] = False
    tells_of_attacks: ClassVar[bool] = True

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        part = facts.answers.part
        if part is None:
            return None
        own = facts.run_time
        return share_of(np.asarray(part == own.targets)[own.counted])
