"""From what the referee knows to the records of a result: every score is asked for its own part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from server.referee.damage.hits import DamageHits
from server.referee.facts import AgentFacts, DefenderFacts, GroupFacts, RoundFacts
from server.referee.registry import standard_scores
from server.referee.results import (
    AgentScores,
    DefenderScores,
    GroupScores,
    GroupValue,
    Quantity,
    Score,
    ScoreValue,
)
from server.referee.scores.base import (
    AgentScore,
    DefenderScore,
    GroupScore,
    RoundScore,
    named,
)
from server.referee.scoring.agents import CountedHits
from server.referee.scoring.groups import comparison
from server.referee.scoring.scores import share


def agent_scores(facts: AgentFacts, asked: Sequence[object] = ()) -> AgentScores:
    """Return an agent's scores.

    Args:
        facts: What is known of it.
        asked: What the scenario asks for beside the scores of every game.
    """
    every = (score for score in _standard(AgentScore) if score.title in AgentScores.model_fields)
    more: dict[str, ScoreValue] = {}
    for score in asked:
        if isinstance(score, AgentScore):
            more |= named(score.title, score.compute(facts))
    return AgentScores(**{score.title: _plain(score.compute(facts)) for score in every}, more=more)


def group_scores(
    agents: Sequence[AgentScores],
    hits: Sequence[CountedHits],
    asked: Sequence[object] = (),
    names: Sequence[str] = (),
    damage: DamageHits | None = None,
) -> GroupScores:
    """Return the scores over `agents`.

    Args:
        agents: Scores of the malicious agents of a group.
        hits: What those of their backdoors are made of, in the same order.
        asked: What is scored beside the scores of every game.
        names: Of the agents, in the same order.
        damage: The test inputs in all games, where a score asks for them.
    """
    facts = GroupFacts(agents, hits, tuple(names), damage)
    of_all: dict[str, Any] = {
        score.title: _plain(score.compute(facts)) for score in _standard(GroupScore)
    }
    for score in _standard(AgentScore):
        if score.title in GroupScores.model_fields:
            values = (getattr(agent, score.title) for agent in agents)
            of_all[score.title] = score.combine([v for v in values if v is not None], facts)
    # The comparison beside the controls is a record of several scores.
    compared = comparison(agents, hits)
    return GroupScores(**of_all, comparison=compared, more=_more_of_group(facts, asked))


def own_scores(facts: DefenderFacts, asked: Sequence[object] = ()) -> dict[str, Any]:
    """Return the scores of a defender itself, by field of `DefenderScores`."""
    found: dict[str, Any] = {
        score.title: _plain(score.compute(facts))
        for score in _standard(DefenderScore)
        if score.title in DefenderScores.model_fields
    }
    found |= {
        score.title: _pooled(getattr(one, score.title) for one in facts.agents.values())
        for score in _standard(AgentScore)
        if score.pooled
    }
    more: dict[str, ScoreValue] = {}
    for score in asked:
        if isinstance(score, DefenderScore):
            more |= named(score.title, score.compute(facts))
    return found | {"more": more}


def round_scores(facts: RoundFacts, asked: Sequence[object]) -> dict[str, ScoreValue]:
    """Return what the scenario asks for of a round, by name."""
    more: dict[str, ScoreValue] = {}
    for score in asked:
        if isinstance(score, RoundScore):
            more |= named(score.title, score.compute(facts))
    return more


def _standard(family: type[Any]) -> list[Any]:
    return [score for score in standard_scores() if isinstance(score, family)]


def _more_of_group(facts: GroupFacts, asked: Sequence[object]) -> dict[str, GroupValue]:
    more: dict[str, GroupValue] = {}
    for score in asked:
        if isinstance(score, GroupScore):
            more |= named(score.title, score.compute(facts))
        if isinstance(score, AgentScore):
            for name in _names(score.title, facts.agents):
                values = [agent.more[name] for agent in facts.agents if name in agent.more]
                combined = score.combine(values, facts)
                if combined is not None:
                    more[name] = combined
    return more


def _names(title: str, agents: Iterable[AgentScores]) -> list[str]:
    """Return the names under which the agents have an asked score: its title and its parts."""
    own = (name for agent in agents for name in agent.more)
    return list(dict.fromkeys(n for n in own if n == title or n.startswith(f"{title}:")))


def _plain(computed: object) -> object:
    """Return a computed score as a field of a result holds it: amounts as bare numbers."""
    return computed.value if isinstance(computed, Quantity) else computed


def _pooled(scores: Iterable[Score | None]) -> Score | None:
    """Return the share over all agents' inputs; None where no agent has the score."""
    found = [score for score in scores if score is not None]
    if not found:
        return None
    return share(sum(score.hits for score in found), sum(score.count for score in found))
