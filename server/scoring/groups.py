"""Scores over several agents."""

from __future__ import annotations

from collections.abc import Sequence

from server.results import AgentScores, GroupScores
from server.scoring.agents import Pair
from server.scoring.scores import difference, summary


def group_scores(agents: Sequence[AgentScores], pairs: Sequence[Pair]) -> GroupScores:
    """Return the scores over `agents`.

    Args:
        agents: Scores of the malicious agents of a group.
        pairs: Hits alone and together of those that were also played alone.
    """
    untrained = [agent.asr_untrained for agent in agents if agent.asr_untrained is not None]
    part = [agent.asr_part for agent in agents if agent.asr_part is not None]
    alone = [agent.asr_alone for agent in agents if agent.asr_alone is not None]
    return GroupScores(
        asr=summary([agent.asr for agent in agents]),
        asr_all=summary([agent.asr_all for agent in agents]),
        robust_accuracy=summary([agent.robust_accuracy for agent in agents]),
        asr_untrained=summary(untrained) if untrained else None,
        asr_alone=summary(alone) if alone else None,
        interference=difference(pairs) if pairs else None,
        asr_part=summary(part) if part else None,
        robust_accuracy_all=summary([agent.robust_accuracy_all for agent in agents]),
    )
