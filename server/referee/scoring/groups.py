"""A group's attack beside its controls, input by input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from learning.pool import Bools
from server.referee.results import (
    AgentScores,
    ControlComparison,
    Difference,
    Score,
)
from server.referee.scoring.scores import difference, share

if TYPE_CHECKING:
    from server.referee.scoring.agents import CountedHits


def comparison(
    agents: Sequence[AgentScores], hits: Sequence[CountedHits]
) -> ControlComparison | None:
    """Return the scores of the agents that were also played alone, each of the same inputs.

    Args:
        agents: Scores of the malicious agents of a group.
        hits: What they are made of, in the same order.

    Returns:
        None where no agent with an input that `asr` counts was played alone.
    """
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
        alone_effect=paired(alone, untrained),
        together_effect=paired(together, untrained),
        clean_accuracy_alone=min(
            (one for one in accuracies if one is not None),
            key=lambda one: one.low,
            default=None,
        ),
    )


def _pooled(scores: Sequence[Score | None]) -> Score:
    found = [score for score in scores if score is not None]
    return share(sum(one.hits for one in found), sum(one.count for one in found))


def paired(first: Sequence[Bools | None], second: Sequence[Bools | None]) -> Difference | None:
    """Return the difference over agents; None where one of them lacks a side."""
    pairs = [
        (one, two)
        for one, two in zip(first, second, strict=True)
        if one is not None and two is not None
    ]
    return difference(pairs) if pairs and len(pairs) == len(first) else None
