"""The rows of the report's tables, out of a result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from backfire.reporting.charts.heatmap import class_name
from backfire.reporting.readings import Reading, accuracy_reading, group_readings
from backfire.reporting.text import NONE, number
from server.referee.registry import asked_score, head_of, standard_scores
from server.referee.results import (
    AgentRecord,
    AgentScores,
    AskedScore,
    DefenderScores,
    GameResult,
    GroupScores,
    GroupValue,
    ScoreValue,
)

MAX_GROUPS = 12
MAX_AGENTS = 60
EXTREMES = 8
MAX_ASKED = 200
EVERYBODY = "all attackers"


@dataclass(frozen=True)
class GroupRow:
    """A group of attackers against a defender."""

    name: str
    colour: str
    scores: GroupScores
    readings: list[Reading]


@dataclass(frozen=True)
class DefenderRows:
    """A defender, and the groups of attackers against it."""

    name: str
    scores: DefenderScores
    clean: Reading | None
    groups: list[GroupRow]
    hidden: int


@dataclass(frozen=True)
class AgentRow:
    """An agent against a defender; one cell for each column of the table."""

    record: AgentRecord
    target: str
    cells: list[ScoreValue | None]


@dataclass(frozen=True)
class AgentTable:
    """Agents against one defender.

    Attributes:
        defender: Its name.
        columns: Heads of the scores shown.
        rows: All agents, or the extremes.
        agents: Number of all agents.
        unscored: Names of the agents that were not scored.
    """

    defender: str
    columns: list[str]
    rows: list[AgentRow]
    agents: int
    unscored: list[str]


@dataclass(frozen=True)
class GroupOfAgents:
    """Who played: one entry of the scenario."""

    name: str
    colour: str
    behaviour: str
    agents: int
    admitted: int
    rows: int
    poisoned: int
    targets: str
    claimed: bool


def palette(result: GameResult) -> dict[str, str]:
    """Return a colour class for each group: cheats in the order of the roster, then honest ones."""
    cheats = dict.fromkeys(agent.group for agent in result.roster if agent.malicious)
    found = {group: f"c{k % 6}" for k, group in enumerate(cheats)}
    return {agent.group: found.get(agent.group, "honest") for agent in result.roster}


def score_rows(result: GameResult, colours: dict[str, str]) -> list[DefenderRows]:
    """Return the table of scores, defender by group."""
    return [_defender_rows(name, d, colours) for name, d in result.defenders.items()]


def legend(rows: Sequence[DefenderRows]) -> list[Reading]:
    """Return each badge of the table once, in the order in which they first appear."""
    shown = [
        reading
        for row in rows
        for reading in (
            *([row.clean] if row.clean else []),
            *(reading for group in row.groups for reading in group.readings),
        )
    ]
    return list({reading.meaning: reading for reading in shown}.values())


def largest(groups: dict[str, GroupScores]) -> list[str]:
    """Return the groups that are shown one by one: the largest, in scenario order."""
    ranked = sorted(groups, key=lambda name: -groups[name].asr.agents)[:MAX_GROUPS]
    return [name for name in groups if name in ranked]


def _defender_rows(name: str, scores: DefenderScores, colours: dict[str, str]) -> DefenderRows:
    shown = largest(scores.groups)
    groups = [(group, colours.get(group, "c0"), scores.groups[group]) for group in shown]
    if scores.malicious is not None and len(scores.groups) > 1:
        groups.append((EVERYBODY, "everybody", scores.malicious))
    return DefenderRows(
        name,
        scores,
        accuracy_reading(scores.damage),
        [GroupRow(group, colour, found, group_readings(found)) for group, colour, found in groups],
        len(scores.groups) - len(shown),
    )


def agent_table(name: str, scores: DefenderScores, result: GameResult) -> AgentTable:
    """Return the agents of one defender; of more than 60 only the extremes."""
    roster = result.roster_of(name)
    scored = [agent for agent in roster if agent.name in scores.agents]
    shown = scored if len(scored) <= MAX_AGENTS else _extremes(scored, scores.agents)
    own = {agent.name: _scores_of(scores.agents[agent.name]) for agent in shown}
    columns = [name for name in _named(own.values()) if any(name in one for one in own.values())]
    return AgentTable(
        defender=name,
        columns=[head_of(column, result.asked) for column in columns],
        rows=[_agent_row(agent, own[agent.name], columns, result) for agent in shown],
        agents=len(roster),
        unscored=[agent.name for agent in roster if agent.name not in scores.agents],
    )


def _scores_of(scores: AgentScores) -> dict[str, ScoreValue]:
    """Return the scores that an agent has, by name: those of every game, then those asked for."""
    own = {score.title: getattr(scores, score.title, None) for score in standard_scores()}
    return {name: value for name, value in own.items() if value is not None} | scores.more


def _named(agents: Collection[Mapping[str, ScoreValue]]) -> list[str]:
    """Return the names of all scores in the order of their columns."""
    asked = (name for own in agents for name in own)
    return list(dict.fromkeys([*(score.title for score in standard_scores()), *asked]))


def _agent_row(
    agent: AgentRecord, scores: Mapping[str, ScoreValue], columns: list[str], result: GameResult
) -> AgentRow:
    cells = [scores.get(column) for column in columns]
    return AgentRow(agent, class_name(agent.target, result.class_names), cells)


@dataclass(frozen=True)
class AskedRow:
    """A score that the scenario asked for, against every defender.

    Attributes:
        head: What it is called.
        whose: The group it is of; "" for the defender itself.
        better: Which way is better for those who do not attack; "" where neither is.
        cells: For each defender its value; None where it has none.
    """

    head: str
    whose: str
    better: str
    cells: list[ScoreValue | GroupValue | None]


def asked_rows(result: GameResult) -> list[AskedRow]:
    """Return the scores that the scenario asked for, of defenders and of groups of attackers."""
    own = [
        {"": scores.more} | _of_groups(scores) | _of_all(scores, result)
        for scores in result.defenders.values()
    ]
    spots = dict.fromkeys((name, whose) for one in own for whose in one for name in one[whose])
    return [
        AskedRow(
            head_of(name, result.asked),
            whose,
            _better(name, result.asked),
            [one.get(whose, {}).get(name) for one in own],
        )
        for name, whose in list(spots)[:MAX_ASKED]
    ]


def _of_groups(scores: DefenderScores) -> dict[str, Mapping[str, ScoreValue | GroupValue]]:
    return {name: scores.groups[name].more for name in largest(scores.groups)}


def _of_all(
    scores: DefenderScores, result: GameResult
) -> dict[str, Mapping[str, ScoreValue | GroupValue]]:
    """Return the scores of all attackers of several groups that are no means over agents."""
    if scores.malicious is None or len(scores.groups) < 2:
        return {}
    told = ((name, asked_score(name, result.asked)) for name in scores.malicious.more)
    kept = [name for name, one in told if one is not None and one.of == "group"]
    return {EVERYBODY: {name: scores.malicious.more[name] for name in kept}} if kept else {}


def _better(name: str, asked: Mapping[str, AskedScore]) -> str:
    told = asked_score(name, asked)
    if told is None or told.higher_is_better is None:
        return ""
    return "higher is better" if told.higher_is_better else "lower is better"


def _extremes(agents: Sequence[AgentRecord], scores: dict[str, AgentScores]) -> list[AgentRecord]:
    """Return the attackers with the highest and lowest ASR, and the worst served honest agents."""

    def rank(agent: AgentRecord) -> float:
        own = scores[agent.name]
        score = own.asr if agent.malicious else own.run_time_accuracy
        return -1.0 if score is None or score.value is None else score.value

    cheats = sorted((a for a in agents if a.malicious), key=rank, reverse=True)
    honest = sorted((a for a in agents if not a.malicious), key=rank)
    picked = cheats[:EXTREMES] + cheats[EXTREMES:][-EXTREMES:] + honest[:EXTREMES]
    return list({agent.name: agent for agent in picked}.values())


def groups_of_agents(result: GameResult, colours: dict[str, str]) -> list[GroupOfAgents]:
    """Return who played, by entry of the scenario."""
    groups: dict[str, list[AgentRecord]] = {}
    for agent in result.roster:
        groups.setdefault(agent.group, []).append(agent)
    return [
        GroupOfAgents(
            name=name,
            colour=colours[name],
            behaviour=members[0].behaviour,
            agents=len(members),
            admitted=sum(agent.admitted for agent in members),
            rows=sum(agent.rows for agent in members if agent.admitted),
            poisoned=sum(agent.poisoned_rows for agent in members if agent.admitted),
            targets=_targets(members, result.class_names),
            claimed=any(agent.claimed for agent in members),
        )
        for name, members in groups.items()
    ]


def _targets(members: Sequence[AgentRecord], classes: Sequence[str]) -> str:
    counts: dict[int, int] = {}
    for agent in members:
        if agent.target is not None:
            counts[agent.target] = counts.get(agent.target, 0) + 1
    if not counts:
        return NONE
    shown = [
        class_name(label, classes) + (f" ×{number(n)}" if n > 1 else "")
        for label, n in sorted(counts.items())
    ]
    return ", ".join(shown[:12]) + (" ..." if len(shown) > 12 else "")
