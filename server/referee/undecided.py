"""Answers that are not numbers, counted and told: each is a miss, and a reader must know why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from learning.answers import NO_CLASS
from learning.worlds import ATTACKED, ATTACKER_FREE
from server.referee.scoring.agents import AgentAnswers
from server.referee.scoring.answers import ToAll
from server.referee.scoring.predict import Classes


def undecided_notes(
    tests: Mapping[str, Sequence[ToAll]], agents: Mapping[str, AgentAnswers]
) -> tuple[str, ...]:
    """Return one line for each kind of game with answers that are not numbers; none without.

    Args:
        tests: Answers to the test inputs, in the attacked and in the attacker-free game.
        agents: Answers to agents' run-time inputs.
    """
    own = list(agents.values())
    games = {
        "In the attacked game": [
            *_of_tests(tests.get(ATTACKED, ())),
            *(answers for one in own for answers in (one.clean, one.together, one.part)),
        ],
        "In the game without attackers": [
            *_of_tests(tests.get(ATTACKER_FREE, ())),
            *(one.untrained for one in own),
        ],
        "Where attackers play alone": [one.alone for one in own],
    }
    notes = (_note(where, answers) for where, answers in games.items())
    return tuple(note for note in notes if note)


def all_or_some(tests: Sequence[ToAll], agents: Mapping[str, AgentAnswers]) -> str:
    """Return the same of one round of the attacked game, without counts; empty without."""
    own = [answers for one in agents.values() for answers in (one.clean, one.triggered)]
    lost, count = _counted([*_of_tests(tests), *own])
    if not lost:
        return ""
    return f"{'all' if lost == count else 'some'} answers of the model are not numbers: misses"


def _of_tests(tests: Sequence[ToAll]) -> list[Classes]:
    return [classes for classes, _ in tests]


def _note(where: str, answers: Iterable[Classes | None]) -> str:
    lost, count = _counted(answers)
    if not lost:
        return ""
    return (
        f"{where} {lost} of {count} answers are not numbers (NaN or infinite): each is a miss, for "
        "its label and for every target."
    )


def _counted(answers: Iterable[Classes | None]) -> tuple[int, int]:
    """Return how many answers are no class, and how many there are."""
    given = [classes for classes in answers if classes is not None]
    lost = sum(int(np.count_nonzero(classes == NO_CLASS)) for classes in given)
    return lost, sum(classes.size for classes in given)
