"""From the result of a game to lines of a sweep's long table: a line for each score.

Scores keep the names and definitions of `server.referee.results.DEFINITIONS`. Beside them a
defender has ``adversarial:<attack>``, ``work``, ``constant_accuracy`` (clean accuracy of the best
constant answer: the share of the most frequent class among the test inputs), ``honest_removed`` (of
a federated rule that removes updates: those of agents that did not cheat in their round, which it
removed all the same), and for each of its filters ``filter:<kind>:precision``, ``:recall``,
``:auroc``, ``:false_positives`` (clean rows of the pool that it saw which it removed) and
``:false_negatives`` (poisoned rows that it kept); a second filter of a kind is ``<kind>#2``.
Attackers have ``trigger_shape_distance`` and ``trigger_shape_colour_distance``
(`server.referee.results.TriggerDistance`), a group the mean over its agents but the one compared
with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from learning.metrics import mean_std
from scenarios.sweep.published import ALL_ATTACKERS
from scenarios.sweep.spec import Coordinate
from server.referee.results import (
    AgentRecord,
    AgentScores,
    DefenderScores,
    DetectionScores,
    Difference,
    FilterScores,
    GameResult,
    Score,
)
from server.referee.scoring.scores import share, summary

# Of each malicious agent, and with mean and spread over the agents of a group.
AGENT_SCORES: Final = (
    "asr",
    "asr_all",
    "asr_source",
    "robust_accuracy",
    "robust_accuracy_all",
    "asr_untrained",
    "asr_together",
    "asr_alone",
    "asr_part",
    "guess_accuracy",
    "run_time_accuracy",
)
_OWN_SCORES: Final = (
    "clean_accuracy",
    "clean_accuracy_attacker_free",
    "validation_accuracy",
    "guess_accuracy",
)
_DETECTION: Final = ("precision", "recall")


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
        value: A share in 0..1, a difference in -1..1, or an amount (`work`); None where there was
            nothing to count.
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
        for part in (_own(result, scores), _over_agents(result, name, scores))
        for row in (replace(row, defender=name) for row in _placed(part, blank))
    ]


def _placed(rows: Iterator[ScoreRow], blank: ScoreRow) -> Iterator[ScoreRow]:
    for row in rows:
        yield replace(row, at=blank.at, seed=blank.seed, cell=blank.cell)


def _row(score: str, value: float | None, group: str = "", agent: str = "") -> ScoreRow:
    return ScoreRow({}, 0, "", "", group, agent, score, value, agents=int(bool(agent)))


def _share(name: str, score: Score, group: str = "", agent: str = "") -> ScoreRow:
    return replace(
        _row(name, score.value, group, agent),
        hits=score.hits,
        count=score.count,
        low=score.low,
        high=score.high,
    )


def _difference(name: str, score: Difference, group: str, agent: str = "") -> ScoreRow:
    row = _row(name, score.value, group, agent)
    return replace(row, count=score.count, low=score.low, high=score.high)


def _own(result: GameResult, scores: DefenderScores) -> Iterator[ScoreRow]:
    """Yield the scores of the defender itself."""
    for name in _OWN_SCORES:
        if (score := getattr(scores, name)) is not None:
            yield _share(name, score)
    for title, score in scores.adversarial_accuracy.items():
        yield _share(f"adversarial:{title}", score)
    if scores.detection is not None:
        for name in _DETECTION:
            if (found := getattr(scores.detection, name)) is not None:
                yield _share(f"detection_{name}", found)
        yield _row("detection_auroc", scores.detection.auroc)
        yield from _honest_removed(scores.detection)
    yield from _filters(scores.filters, result.rows.get("defender", 0) + result.rows["agents"])
    yield _row("work", scores.work)
    if scores.constant_accuracy is not None:
        yield _row("constant_accuracy", scores.constant_accuracy)


def _honest_removed(found: DetectionScores) -> Iterator[ScoreRow]:
    if found.removed is not None and found.true_positives is not None:
        wrong, honest = found.removed - found.true_positives, found.updates - found.cheating
        yield _share("honest_removed", share(wrong, honest))


def _filters(filters: Sequence[FilterScores], rows: int) -> Iterator[ScoreRow]:
    """Yield the scores of filters, the first of which sees `rows` rows."""
    seen: Counter[str] = Counter()
    for one in filters:
        seen[one.kind] += 1
        number = f"#{seen[one.kind]}" if seen[one.kind] > 1 else ""
        name = f"filter:{one.kind}{number}"
        wrong, missed = one.removed - one.true_positives, one.poisoned - one.true_positives
        yield _share(f"{name}:precision", one.precision)
        yield _share(f"{name}:recall", one.recall)
        yield _share(f"{name}:false_positives", share(wrong, rows - one.poisoned))
        yield _share(f"{name}:false_negatives", share(missed, one.poisoned))
        yield _row(f"{name}:auroc", one.auroc)
        rows -= one.removed


def _over_agents(result: GameResult, name: str, scores: DefenderScores) -> Iterator[ScoreRow]:
    """Yield the scores of the malicious agents: all of them, each group, each agent."""
    members: dict[str, list[str]] = {}
    for record in result.roster_of(name):
        if record.malicious and record.name in scores.agents:
            members.setdefault(record.group, []).append(record.name)
    everyone = [agent for names in members.values() for agent in names]
    apart = _distances(result.roster_of(name))
    if everyone:
        gap = scores.malicious.interference if scores.malicious is not None else None
        yield from _group(ALL_ATTACKERS, [scores.agents[agent] for agent in everyone], gap)
        yield from _mean_distances(ALL_ATTACKERS, everyone, apart)
    for group, names in members.items():
        if group != ALL_ATTACKERS:  # its lines could not be told from those of all
            own = scores.groups.get(group)
            gap = None if own is None else own.interference
            yield from _group(group, [scores.agents[agent] for agent in names], gap)
            yield from _mean_distances(group, names, apart)
        for agent in names:
            yield from _agent(group, agent, scores.agents[agent])
            for score, values in apart.items():
                if agent in values:
                    yield _row(score, values[agent], group, agent)


def _group(group: str, agents: Sequence[AgentScores], gap: Difference | None) -> Iterator[ScoreRow]:
    for name in AGENT_SCORES:
        scores = [score for one in agents if (score := getattr(one, name)) is not None]
        if scores:
            over = summary(scores)
            row = replace(_share(name, over.pooled, group), value=over.mean)
            yield replace(row, std=over.std, agents=over.agents)
    if gap is not None:
        played = sum(one.interference is not None for one in agents)
        yield replace(_difference("interference", gap, group), agents=played)


def _agent(group: str, agent: str, scores: AgentScores) -> Iterator[ScoreRow]:
    for name in AGENT_SCORES:
        if (score := getattr(scores, name)) is not None:
            yield _share(name, score, group, agent)
    if scores.interference is not None:
        yield _difference("interference", scores.interference, group, agent)


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
