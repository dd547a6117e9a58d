"""Scores over several agents."""

from __future__ import annotations

from collections.abc import Sequence

from learning.pool import Bools
from server.referee.results import (
    AgentScores,
    ControlComparison,
    Difference,
    GroupScores,
    Score,
    Summary,
)
from server.referee.scoring.agents import CountedHits
from server.referee.scoring.scores import difference, share, summary


def group_scores(agents: Sequence[AgentScores], hits: Sequence[CountedHits]) -> GroupScores:
    """Return the scores over `agents`.

    Args:
        agents: Scores of the malicious agents of a group with a backdoor.
        hits: What they are made of, in the same order.
    """
    compared = _comparison(agents, hits)
    return GroupScores(
        asr=summary([agent.asr for agent in agents]),
        asr_all=summary([agent.asr_all for agent in agents]),
        robust_accuracy=summary([agent.robust_accuracy for agent in agents]),
        asr_untrained=_over([agent.asr_untrained for agent in agents]),
        asr_together=_over([agent.asr_together for agent in agents]),
        asr_alone=_over([agent.asr_alone for agent in agents]),
        interference=None if compared is None else compared.interference,
        asr_part=_over([agent.asr_part for agent in agents]),
        robust_accuracy_all=summary([agent.robust_accuracy_all for agent in agents]),
        effect=_paired([one.together for one in hits], [one.untrained for one in hits]),
        comparison=compared,
    )


def _over(scores: Sequence[Score | None]) -> Summary | None:
    """Return the summary of the scores that there are; None where there is none."""
    found = [score for score in scores if score is not None]
    return summary(found) if found else None


def _comparison(
    agents: Sequence[AgentScores], hits: Sequence[CountedHits]
) -> ControlComparison | None:
    """Return the scores of the agents that were also played alone, each of the same inputs."""
    both = [
        (agent, own)
        for agent, own in zip(agents, hits, strict=True)
        if own.alone is not None and own.alone.shape[1]
    ]
    if not both:
        return None
    own = [found for _, found in both]
    together, untrained = [one.together for one in own], [one.untrained for one in own]
    alone = [one.alone for one in own]
    gap = difference([(one.alone, one.together) for one in own if one.alone is not None])
    accuracies = [one.clean_accuracy_alone for one, _ in both]
    return ControlComparison(
        agents=len(own),
        of=sum(one.together.shape[1] > 0 for one in hits),
        trainings=gap.trainings,
        together=_pooled([agent.asr_together for agent, _ in both]),
        alone=_pooled([agent.asr_alone for agent, _ in both]),
        untrained=None
        if any(one is None for one in untrained)
        else _pooled([agent.asr_untrained for agent, _ in both]),
        interference=gap,
        alone_effect=_paired(alone, untrained),
        together_effect=_paired(together, untrained),
        clean_accuracy_alone=min(
            (one for one in accuracies if one is not None),
            key=lambda one: one.low,
            default=None,
        ),
    )


def _pooled(scores: Sequence[Score | None]) -> Score:
    found = [score for score in scores if score is not None]
    return share(sum(one.hits for one in found), sum(one.count for one in found))


def _paired(first: Sequence[Bools | None], second: Sequence[Bools | None]) -> Difference | None:
    """Return the difference over agents; None where one of them lacks a side."""
    pairs = [
        (one, two)
        for one, two in zip(first, second, strict=True)
        if one is not None and two is not None
    ]
    return difference(pairs) if pairs and len(pairs) == len(first) else None
