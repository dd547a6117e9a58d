"""What a defence must keep to be ranked at all; a low attack success alone proves nothing.

A model that has learnt nothing, or answers with one class, has no backdoor either. So a defence is
asked, under each attack that it met:

- `UNLEARNT`: without attackers, has its model learnt (`backfire.evidence.learnt`)?
- `DESTROYED`: has it learnt under the attack?
- `CLEAN`: without attackers, is its clean accuracy at least that of the undefended model without
  attackers, less 2 points?
- `ATTACKED`: under the attack, is it at least that accuracy, less 5 points?
- `REMOVED`: of a federated rule that removes updates, did it remove at most a fifth of the honest
  ones, each counted in each round?

The first two ask nothing of the undefended model, so that a dead defence fails beside a dead
reference, too; they are asked where the card knows the best constant answer.

Seeds are few, so that the answers of the others have three grades. A gate is *failed* where the
mean over seeds is on the wrong side of the limit and either surely so
(`backfire.evidence.comparisons`: paired by seed, corrected for all questions to this defence, from
three seeds on) or by more than `DOUBT`. In between it is *at the edge*: noise may be why, and the
defence keeps its rank and a flag.

The attack is asked, too: one that costs the undefended model more than 5 points of clean accuracy
does not hide, and is no backdoor (`costs_too_much`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from backfire.evidence.comparisons import BySeed, compare_all
from backfire.evidence.estimates import ANYWHERE
from backfire.evidence.learnt import Learning, learning

UNLEARNT: Final = "has not learnt"
DESTROYED: Final = "has not learnt under attack"
CLEAN: Final = "costs accuracy"
ATTACKED: Final = "loses accuracy under attack"
REMOVED: Final = "removes honest agents"

# Clean accuracy that a defence may cost without attackers, and under attack.
COST: Final = 0.02
COST_ATTACKED: Final = 0.05
# Honest updates that a rule may remove.
MOST_REMOVED: Final = 0.2
# Clean accuracy that a backdoor may cost the undefended model.
COST_OF_ATTACK: Final = 0.05
# No noise of a model that learns excuses more than this beyond a limit.
DOUBT: Final = 0.1
# Shares that differ by rounding alone are the same.
_EQUAL: Final = 1e-9

Gate = Literal[
    "has not learnt",
    "has not learnt under attack",
    "costs accuracy",
    "loses accuracy under attack",
    "removes honest agents",
]
Grade = Literal["passed", "at the edge", "failed"]


class Evidence(NamedTuple):
    """What a gate reads of one attack against one defence, by seed; empty where it is not known.

    Attributes:
        free: Clean accuracy without attackers.
        attacked: Clean accuracy under the attack.
        removed: Share of honest updates that were removed.
        undefended: Clean accuracy of the undefended model without attackers.
        constant: Clean accuracy of the best constant answer.
    """

    free: BySeed
    attacked: BySeed
    removed: BySeed
    undefended: BySeed
    constant: BySeed = MappingProxyType({})


@dataclass(frozen=True)
class Answer:
    """What a gate says of a defence under one attack.

    Attributes:
        gate: Which.
        attack: Hash of the attack.
        value: What was found, mean over seeds, 0..1.
        limit: The least that is asked, or of `REMOVED` the most; mean over the same seeds.
        seeds: Number of seeds.
        grade: What came of it.
        learning: Of `UNLEARNT` and `DESTROYED`: what they read; None of others.
    """

    gate: Gate
    attack: str
    value: float
    limit: float
    seeds: int
    grade: Grade
    learning: Learning | None = None

    @property
    def beyond(self) -> float:
        """How far the mean is on the wrong side of the limit."""
        gap = self.limit - self.value
        return -gap if self.gate == REMOVED else gap


class _Question(NamedTuple):
    gate: Gate
    attack: str
    values: BySeed
    limits: BySeed
    sign: int

    @property
    def beyond(self) -> float:
        """How far the mean is on the wrong side of the limit."""
        return self.sign * (_mean(self.limits) - _mean(self.values))


def answers(met: Mapping[str, Evidence]) -> list[Answer]:
    """Ask a defence all that can be asked.

    Args:
        met: By the attack's hash.
    """
    questions = [one for attack, found in met.items() for one in _questions(attack, found)]
    grades = _grades(questions)
    return [
        *(one for attack, found in met.items() for one in _unlearnt(attack, found)),
        *(
            Answer(
                one.gate, one.attack, _mean(one.values), _mean(one.limits), len(one.values), grade
            )
            for one, grade in zip(questions, grades, strict=True)
        ),
    ]


def costs_too_much(undefended: BySeed, attacked: BySeed) -> bool:
    """Return whether an attack surely costs an undefended model more than a backdoor may.

    Args:
        undefended: Its clean accuracy by seed, without attackers.
        attacked: The same under the attack.
    """
    if not undefended or not attacked:
        return False
    limits = _less(undefended, COST_OF_ATTACK, attacked)
    return _grades([_Question(ATTACKED, "", attacked, limits, 1)]) == ["failed"]


def _unlearnt(attack: str, found: Evidence) -> Iterator[Answer]:
    sides: tuple[tuple[Gate, BySeed], ...] = ((UNLEARNT, found.free), (DESTROYED, found.attacked))
    for gate, accuracy in sides:
        told = learning(accuracy, found.constant)
        if told is not None and told.failed:
            yield Answer(gate, attack, told.accuracy, told.needed, told.seeds, "failed", told)


def _questions(attack: str, found: Evidence) -> Iterator[_Question]:
    sides: tuple[tuple[Gate, BySeed, float], ...] = (
        (CLEAN, found.free, COST),
        (ATTACKED, found.attacked, COST_ATTACKED),
    )
    for gate, values, cost in sides:
        if values and found.undefended:
            limits = _less(found.undefended, cost, values)
            yield _Question(gate, attack, values, limits, 1)
    if found.removed:
        limits = dict.fromkeys(found.removed, MOST_REMOVED)
        yield _Question(REMOVED, attack, found.removed, limits, -1)


def _less(undefended: BySeed, cost: float, values: BySeed) -> dict[int, float]:
    """Return the limit for each seed; a seed that was not played undefended has the mean one."""
    mean = _mean(undefended)
    return {seed: undefended.get(seed, mean) - cost for seed in values}


def _grades(questions: Sequence[_Question]) -> list[Grade]:
    told = compare_all(
        [
            (
                ("found", {seed: one.sign * value for seed, value in one.values.items()}),
                ("limit", {seed: one.sign * value for seed, value in one.limits.items()}),
            )
            for one in questions
        ],
        bounds=ANYWHERE,
    )
    return [
        _grade(one.beyond, surely=comparison.verdict == "worse")
        for one, comparison in zip(questions, told, strict=True)
    ]


def _grade(beyond: float, *, surely: bool) -> Grade:
    if surely or beyond > DOUBT:
        return "failed"
    return "at the edge" if beyond > _EQUAL else "passed"


def _mean(values: BySeed) -> float:
    return sum(values.values()) / len(values)
