"""From the result of a game to lines of a sweep's long table: a line for each score.

Which scores there are is said by their classes (`server.referee.scores`), and of those that a
scenario asked for by the result itself. A score of several parts has a line for each:
``adversarial:<attack>``, and for each of a defender's filters ``filter:<kind>:precision``,
``:recall``, ``:auroc``, ``:false_positives`` and ``:false_negatives``; a second filter of a kind
is ``<kind>#2``. Of a trigger's distances (`server.referee.results.TriggerDistance`) a group has the
mean over its agents but the one compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from learning.metrics import mean_std
from scenarios.sweep.published import ALL_ATTACKERS
from scenarios.sweep.spec import Coordinate
from server.referee.registry import standard_scores
from server.referee.results import (
    AgentRecord,
    AgentScores,
    DefenderScores,
    GameResult,
    GroupScores,
    GroupValue,
    Quantity,
    QuantitySummary,
    Score,
    ScoreValue,
    Summary,
)
from server.referee.scores.base import AgentScore, DefenderScore
from server.referee.scoring.scores import summary


@dataclass(frozen=True)
class ScoreRow:
    """One score of one game.

    Attributes:
        at: The cell's coordinate on each axis.
        seed: The game's seed.
        cell: Name of the cell's run folder.
        defender: The defender.
        group: The agents' scenario entry; "malicious" for all malicious agents; "" for scores of
            the defender.
        agent: "" for the mean over the group's agents.
        score: Name of the score.
        value: A share in 0..1, a difference in -1..1, or an amount such as `work`; None where there
            was nothing to count.
        hits: Inputs that count for the score, pooled over the group's agents; None for differences
            and amounts.
        count: Inputs, pooled over the group's agents; 0 for amounts.
        low: Lower end of the 95 % interval over these inputs; None for amounts.
        high: Upper end.
        std: Standard deviation across the group's agents (n - 1); None below two.
        agents: Agents that the value is a mean of; 1 for one agent, 0 for scores of the defender.
    """

    at: Mapping[str, Coordinate]
    seed: int
    cell: str
    defender: str
    group: str
    agent: str
    score: str
    value: float | None
    hits: float | None = None
    count: int = 0
    low: float | None = None
    high: float | None = None
    std: float | None = None
    agents: int = 0


def rows_of(result: GameResult, at: Mapping[str, Coordinate], cell: str) -> list[ScoreRow]:
    """Return the lines of a game: defenders in their order, each with its own scores first.

    Args:
        result: The game's result.
        at: The cell's coordinates.
        cell: Name of its run folder.
    """
    blank = ScoreRow(at, result.seed, cell, "", "", "", "", None)
    return [
        row
        for name, scores in result.defenders.items()
        for part in (_own(result, name, scores), _over_agents(result, name, scores))
        for row in (replace(row, defender=name) for row in _placed(part, blank))
    ]


def _placed(rows: Iterator[ScoreRow], blank: ScoreRow) -> Iterator[ScoreRow]:
    for row in rows:
        yield replace(row, at=blank.at, seed=blank.seed, cell=blank.cell)


def _row(score: str, value: float | None, group: str = "", agent: str = "") -> ScoreRow:
    return ScoreRow({}, 0, "", "", group, agent, score, value, agents=int(bool(agent)))


def _line(name: str, value: ScoreValue, group: str = "", agent: str = "") -> ScoreRow:
    row = _row(name, value.value, group, agent)
    if isinstance(value, Score):
        row = replace(row, hits=value.hits)
    if not isinstance(value, Quantity):
        row = replace(row, count=value.count)
    return replace(row, low=value.low, high=value.high)


def _own(result: GameResult, name: str, scores: DefenderScores) -> Iterator[ScoreRow]:
    """Yield the scores of the defender itself."""
    for score in standard_scores():
        if isinstance(score, DefenderScore) and score.in_sweeps:
            for title, value in score.of_defender(scores, result).items():
                yield _line(title, value)
        if isinstance(score, AgentScore) and score.pooled:
            pooled = getattr(scores, score.title)
            yield from [_line(score.title, pooled)] if pooled is not None else []
    after = [entry.more for entry in result.rounds.get(name, ()) if entry.more]
    for title, value in {**scores.more, **(after[-1] if after else {})}.items():
        yield _line(title, value)


def _over_agents(result: GameResult, name: str, scores: DefenderScores) -> Iterator[ScoreRow]:
    """Yield the scores of the malicious agents: all of them, each group, each agent."""
    members: dict[str, list[str]] = {}
    for record in result.roster_of(name):
        if record.malicious and record.name in scores.agents:
            members.setdefault(record.group, []).append(record.name)
    everyone = [agent for names in members.values() for agent in names]
    apart = _distances(result.roster_of(name))
    if everyone:
        every = [scores.agents[agent] for agent in everyone]
        yield from _group(ALL_ATTACKERS, every, scores.malicious)
        yield from _mean_distances(ALL_ATTACKERS, everyone, apart)
    for group, names in members.items():
        if group != ALL_ATTACKERS:  # its lines could not be told from those of all
            members_scores = [scores.agents[agent] for agent in names]
            yield from _group(group, members_scores, scores.groups.get(group))
            yield from _mean_distances(group, names, apart)
        for agent in names:
            yield from _agent(group, agent, scores.agents[agent])
            for score, values in apart.items():
                if agent in values:
                    yield _row(score, values[agent], group, agent)


def _of_agents() -> list[AgentScore]:
    """Return the scores of every game that agents have."""
    return [
        score
        for score in standard_scores()
        if isinstance(score, AgentScore)
        and score.in_sweeps
        and score.title in AgentScores.model_fields
    ]


def _group(
    group: str, agents: Sequence[AgentScores], own: GroupScores | None
) -> Iterator[ScoreRow]:
    for name in (score.title for score in _of_agents()):
        values = [value for one in agents if (value := getattr(one, name)) is not None]
        shares = [value for value in values if isinstance(value, Score)]
        if shares:
            yield _combined(name, summary(shares), group, len(shares))
        elif values and own is not None and (value := getattr(own, name, None)) is not None:
            yield _combined(name, value, group, len(values))
    for name, value in own.more.items() if own is not None else ():
        yield _combined(name, value, group, sum(name in one.more for one in agents))


def _agent(group: str, agent: str, scores: AgentScores) -> Iterator[ScoreRow]:
    own = {score.title: getattr(scores, score.title) for score in _of_agents()}
    for name, value in {**own, **scores.more}.items():
        if value is not None:
            yield _line(name, value, group, agent)


def _combined(name: str, value: GroupValue, group: str, agents: int) -> ScoreRow:
    """Return the line of a group; `agents` of it have the score."""
    if isinstance(value, Summary):
        row = replace(_line(name, value.pooled, group), value=value.mean)
        return replace(row, std=value.std, agents=value.agents)
    if isinstance(value, QuantitySummary):
        return replace(_row(name, value.mean, group), std=value.std, agents=value.agents)
    return replace(_line(name, value, group), agents=agents)


def _distances(roster: Sequence[AgentRecord]) -> dict[str, dict[str, float]]:
    """Return the triggers' distances by score and agent, without the one that is compared with."""
    known = [r for r in roster if r.malicious and r.trigger_distance is not None][1:]
    return {
        f"trigger_{part}_distance": {
            record.name: apart
            for record in known
            if (apart := getattr(record.trigger_distance, part)) is not None
        }
        for part in ("shape", "shape_colour")
    }


def _mean_distances(
    group: str, agents: Sequence[str], apart: Mapping[str, Mapping[str, float]]
) -> Iterator[ScoreRow]:
    for score, values in apart.items():
        own = [values[agent] for agent in agents if agent in values]
        if own:
            mean, std = mean_std(own)
            yield replace(_row(score, mean, group), std=std, agents=len(own))
