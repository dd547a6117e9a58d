"""What every score must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_score(MyScore())``. Whether it counts what it says is for its
own tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from learning.conformance import check_survives_json, expect, expected, told
from learning.method import kind_of
from learning.pool import Ints
from learning.seeds import numpy_generator
from server.referee.assembly import agent_scores, group_scores
from server.referee.damage.hits import DamageHits, Right
from server.referee.facts import (
    AgentFacts,
    AttackHistory,
    DefenderFacts,
    GroupFacts,
    RoundFacts,
)
from server.referee.results import (
    AgentRecord,
    AgentScores,
    Difference,
    GroupScores,
    Quantity,
    QuantitySummary,
    RoundScores,
    Score,
    Summary,
)
from server.referee.scores.base import (
    AgentScore,
    Computed,
    DefenderScore,
    GroupScore,
    RoundScore,
    ScoreMethod,
    named,
)
from server.referee.scoring.agents import AgentAnswers
from server.referee.scoring.detection import detection_scores, round_detection
from server.referee.scoring.predict import Classes
from server.referee.scoring.scores import share
from server.referee.sealed import RunTimeSet

CLASSES, ROWS = 3, 12
NAMES = tuple("abc")
_ROUNDING = 1e-9


def check_score(score: ScoreMethod) -> None:
    """Compute a score on small made-up games and check all that results and reports rely on.

    The games are pooled and federated, with control games and without; the agents are honest,
    attack with a backdoor, without one, and with one that no input counts for.

    Args:
        score: With its parameters as a scenario would set them.

    Raises:
        AssertionError: In one line, with the score's title and the case: if the class does not say
            what it is; if the title does not begin with the kind; if what it computes is no score,
            lies outside its bounds, differs from one call to the next, or does not survive the
            result's file; if it writes to what it is given; if it fails; if no made-up game gives
            it a value; or if its parameters do not survive JSON.
    """
    kind = kind_of(type(score))
    check_survives_json(score, kind)
    _check_class(score, kind)
    values = [
        value for case, computed in _cases(score) for value in _checked(score, case, computed)
    ]
    expect(bool(values), score.title, "a value in one of the made-up games", "None in each")
    if isinstance(score, AgentScore):
        _check_groups(score)


def _check_class(score: ScoreMethod, kind: str) -> None:
    families = (AgentScore, GroupScore, DefenderScore, RoundScore)
    expect(
        isinstance(score, families), kind, "an agent's, group's, defender's or round's score",
        "a bare ScoreMethod; derive from AgentScore, GroupScore, DefenderScore or RoundScore",
    )  # fmt: skip
    for name in ("definition", "head", "interval"):
        text = getattr(score, name, None)
        line = isinstance(text, str) and bool(text.strip()) and text.isprintable()
        expect(line, kind, f"{name} as one line of text", repr(text))
    low, high = score.bounds
    expect(low < high, kind, "bounds (low, high) with low < high", repr(score.bounds))
    title = score.title
    fits = title.isprintable() and (title == kind or title.startswith(f"{kind}:"))
    expect(fits, kind, f"a title {kind} or {kind}:<which>", repr(title))


def _cases(score: ScoreMethod) -> Iterator[tuple[str, Computed]]:
    """Yield what a score computes in each made-up game, and what the case is."""
    for federated in (False, True):
        game = "a federated game" if federated else "a pooled game"
        for case, facts in _facts(score, federated):
            where = f"{score.title}, {game}, {case}"
            before = _arrays(facts)
            with expected("a score of a made-up game", where):
                first, again = _computed(score, facts), _computed(score, facts)
            expect(first == again, where, "the same score twice", f"{first} and {again}")
            same = all(map(np.array_equal, before, _arrays(facts)))
            expect(same, where, "what it is given left as it is", "an array was changed")
            yield where, first


def _facts(score: ScoreMethod, federated: bool) -> list[tuple[str, object]]:
    agents = _agents(federated)
    if isinstance(score, AgentScore):
        return [(one.run_time.agent, one) for one in agents]
    if isinstance(score, GroupScore):
        attackers = [one for one in agents if one.malicious]
        scored = [agent_scores(one) for one in attackers]
        names = tuple(one.run_time.agent for one in attackers)
        hits, damage = [one.hits for one in attackers], _damage(attackers)
        return [("all attackers", GroupFacts(scored, hits, names, damage))]
    y = _labels("test", ROWS)
    test = [(_answers("one", ROWS), 2), (_answers("other", ROWS), 1)]
    if isinstance(score, RoundScore):
        return [("a round", RoundFacts(test, y, NAMES, {a.run_time.agent: a for a in agents}))]
    rounds = _rounds() if federated else ()
    return [
        (
            "two models",
            DefenderFacts(
                test,
                y,
                NAMES,
                test_free=[(y.astype(np.int16), 1)],
                detection=detection_scores(rounds),
                roster=[one.record for one in agents if one.record is not None],
                agents={one.run_time.agent: agent_scores(one) for one in agents},
                rounds=rounds,
                rows=len(agents) * ROWS,
                damage=_damage([one for one in agents if one.malicious]),
                averaged=None if federated else (_right("free"), _right("here")),
            ),
        )
    ]


def _computed(score: ScoreMethod, facts: object) -> Computed:
    if isinstance(score, AgentScore) and isinstance(facts, AgentFacts):
        return score.compute(facts)
    if isinstance(score, GroupScore) and isinstance(facts, GroupFacts):
        return score.compute(facts)
    if isinstance(score, DefenderScore) and isinstance(facts, DefenderFacts):
        return score.compute(facts)
    if isinstance(score, RoundScore) and isinstance(facts, RoundFacts):
        return score.compute(facts)
    raise TypeError(f"expected facts that {type(score).__name__} reads")


def _checked(score: ScoreMethod, where: str, computed: Computed) -> list[float]:
    """Return the values of what was computed, each checked."""
    try:
        values = named(score.title, computed)
        back = AgentScores(run_time_accuracy=share(0, 0), more=values)
        same = AgentScores.model_validate_json(back.model_dump_json()).more == values
    except Exception as error:
        raise AssertionError(
            f"{where}: expected a Score, a Difference, a Quantity, a mapping of them or None, got "
            f"{told(error)}"
        ) from error
    expect(same, where, "the same after a round trip through the result's file", "another score")
    for name in values:
        expect(name.isprintable(), where, "parts with names of printable characters", repr(name))
    found = [value.value for value in values.values() if value.value is not None]
    _check_bounds(score, where, found)
    return found


def _check_bounds(score: ScoreMethod, where: str, values: Sequence[float]) -> None:
    low, high = score.bounds
    for value in values:
        inside = low - _ROUNDING <= value <= high + _ROUNDING
        expect(inside, where, f"values in {low:g}..{high:g}", f"{value}; see `bounds`")


def _check_groups(score: AgentScore) -> None:
    """Check what a score of agents makes of several, whatever their order."""
    for federated in (False, True):
        facts = [one for one in _agents(federated) if one.malicious]
        where = f"{score.title}, a group of attackers"
        with expected("a score of several agents", where):
            first = _of_group(score, facts)
            turned = _of_group(score, facts[::-1])
        expect(first.keys() == turned.keys(), where, "the same in any order", "other parts")
        for name, value in first.items():
            means = [_mean(value), _mean(turned[name])]
            known = [mean for mean in means if mean is not None]
            alike = len(known) != 1 and (not known or abs(known[0] - known[1]) <= _ROUNDING)
            expect(alike, where, "the same in any order of the agents", f"{means}")
            _check_bounds(score, where, known)


def _of_group(
    score: AgentScore, facts: Sequence[AgentFacts]
) -> dict[str, Summary | QuantitySummary | Score | Difference | Quantity]:
    agents = [agent_scores(one, [score]) for one in facts]
    names = [one.run_time.agent for one in facts]
    hits = [one.hits for one in facts]
    scores = group_scores(agents, hits, [score], names, _damage(facts))
    return GroupScores.model_validate_json(scores.model_dump_json()).more


def _mean(value: Summary | QuantitySummary | Score | Difference | Quantity) -> float | None:
    return value.mean if isinstance(value, Summary | QuantitySummary) else value.value


def _arrays(facts: object) -> list[np.ndarray[Any, Any]]:
    """Return copies of the arrays that facts hold."""
    if isinstance(facts, AgentFacts):
        own, got = facts.run_time, facts.answers
        return [a.copy() for a in (own.x, own.y, own.targets, got.clean, got.together)]
    if isinstance(facts, DefenderFacts | RoundFacts):
        return [facts.y.copy(), *(classes.copy() for classes, _ in facts.test)]
    return []


def _labels(purpose: str, rows: int) -> Ints:
    return numpy_generator(0, f"conformance/{purpose}").integers(0, CLASSES, rows)


def _answers(purpose: str, rows: int) -> Classes:
    return _labels(f"answers/{purpose}", rows).astype(np.int16)


def _agents(federated: bool) -> list[AgentFacts]:
    """Return an honest agent, two backdoors, one that no input counts for, and one without any."""
    return [
        _agent("honest", False, 0, federated),
        _agent("backdoor", True, ROWS, federated),
        _agent("other backdoor", True, ROWS, federated),
        _agent("only of the target class", True, ROWS, federated, target_only=True),
        _agent("without a backdoor", True, 0, federated),
    ]


def _agent(
    name: str, malicious: bool, triggered: int, federated: bool, target_only: bool = False
) -> AgentFacts:
    y = np.full(ROWS, 1) if target_only else _labels(name, ROWS)
    x = np.zeros((ROWS, 1, 2, 2), np.float32)
    own = RunTimeSet(name, x, y, x[:triggered] + 1, np.full(triggered, 1), 1 if triggered else None)
    games = [_answers(f"{name}/{game}", triggered)[None] for game in ("here", "free", "alone")]
    answers = AgentAnswers(
        _answers(name, ROWS), games[0], None, *(games[1:] if not federated else (None, None))
    )
    record = AgentRecord(
        name=name, group=name, behaviour="backdoor" if malicious else "benign",
        malicious=malicious, rows=ROWS, poisoned_rows=2 * malicious, target=None, source=None,
        admitted=True,
    )  # fmt: skip
    history = AttackHistory((2, 3), 2.0, 2 * ROWS) if federated and malicious else None
    alone = (_right("free"), _right(name)) if malicious else None
    rounds = _rounds() if federated else ()
    return AgentFacts(own, answers, malicious, record, history, rounds, alone)


def _right(game: str) -> Right:
    """Return which made-up test inputs two trainings of a game answer right, (2, ROWS)."""
    return (_labels(f"right/{game}", 2 * ROWS) > 0).astype(np.float64).reshape(2, ROWS)


def _damage(attackers: Sequence[AgentFacts]) -> DamageHits:
    """Return the test inputs in all games of these attackers."""
    names = tuple(one.run_time.agent for one in attackers)
    alone = {one.run_time.agent: one.alone for one in attackers if one.alone is not None}
    return DamageHits(_right("free"), _right("here"), alone, names, apart=False)


def _rounds() -> tuple[RoundScores, ...]:
    """Return rounds of a rule that selects, in which a backdoor sets and fades."""
    agents, cheats = ("honest", "backdoor", "other backdoor"), ("backdoor", "other backdoor")
    found = []
    for number, hits in enumerate((1, 5, 9, 8, 4, 1), 1):
        cheating = cheats if number in (2, 3) else ()
        taken = agents[1:] if number % 2 else agents[:2]
        found.append(
            RoundScores(
                round=number,
                sampled=agents,
                admitted=agents,
                skipped=False,
                selected=taken,
                clean_accuracy=share(8, ROWS),
                asr={name: share(hits, 10) for name in cheats},
                detection=round_detection(agents, cheating, taken, None),
            )
        )
    return tuple(found)
