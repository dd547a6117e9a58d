"""The scores of every game and those that a scenario may ask for, found by folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from learning.method import discover, kind_of
from server.referee.results import AgentRecord, AskedScore
from server.referee.scores.base import ScoreMethod

STANDARD: Final = "server.referee.scores.standard"
CHOSEN: Final = "server.referee.scores"


@cache
def standard_scores() -> tuple[ScoreMethod, ...]:
    """Return the scores of every game, by rank."""
    found = (method() for method in discover(ScoreMethod, STANDARD).values())
    return tuple(sorted(found, key=lambda score: (score.rank, score.title)))


@cache
def all_classes() -> tuple[type[ScoreMethod], ...]:
    """Return the classes of all scores that are installed here, by rank."""
    found = {**discover(ScoreMethod, STANDARD), **discover(ScoreMethod, CHOSEN)}
    return tuple(sorted(found.values(), key=lambda method: (method.rank, kind_of(method))))


def asked_of(scores: Sequence[object]) -> list[ScoreMethod]:
    """Return what a scenario asks for as the scores that they are."""
    return [score for score in scores if isinstance(score, ScoreMethod)]


def with_damage(scores: Sequence[object], roster: Sequence[AgentRecord]) -> list[ScoreMethod]:
    """Return what is scored beside the scores of every game: what a scenario asks for, and damage.

    The scores of damage belong to every game with an agent that aims at it.
    """
    asked = asked_of(scores)
    if not any(agent.damages for agent in roster):
        return asked
    every = [method for method in all_classes() if method.of_damage]
    return asked + [method() for method in every if method not in map(type, asked)]


def averaged_epochs(scores: Sequence[object], roster: Sequence[AgentRecord]) -> int:
    """Return over how many epochs a game's trainings average weights for its scores; 0: none."""
    return max((score.averaged_epochs for score in with_damage(scores, roster)), default=0)


def definitions(asked: Sequence[ScoreMethod] = ()) -> dict[str, str]:
    """Return what each score means, by name: those of every game, then those asked for."""
    return {score.title: score.definition for score in (*standard_scores(), *asked)}


def class_of(name: str) -> type[ScoreMethod] | None:
    """Return the class of a score by its name in the long table; None where it is not known.

    Args:
        name: A `kind`, or one with details, such as ``filter:spectral_signatures:recall``.
    """
    prefix = name.partition(":")[0]
    return next((one for one in all_classes() if prefix in (kind_of(one), one.prefix)), None)


def told(score: ScoreMethod) -> AskedScore:
    """Return what a result keeps of a score that its scenario asked for."""
    low, high = (None if abs(end) == float("inf") else end for end in score.bounds)
    return AskedScore(
        of=score.of,
        head=score.head,
        interval=score.interval,
        higher_is_better=score.higher_is_better,
        low=low,
        high=high,
        unit=score.unit,
    )


def head_of(name: str, asked: Mapping[str, AskedScore]) -> str:
    """Return the head of a score's column, by its name in a result.

    Args:
        name: Of a score of every game, or of one that was asked for, with its part if it has any.
        asked: What the result keeps of those that were asked for.
    """
    title = _title(name, asked)
    if title is not None:
        told = asked[title]
        return " ".join(filter(None, (told.head, *name.split(":")[1:])))
    known = class_of(name)
    return name if known is None else known.head


def asked_score(name: str, asked: Mapping[str, AskedScore]) -> AskedScore | None:
    """Return what a result keeps of an asked score, by its name with its part; None of others."""
    title = _title(name, asked)
    return None if title is None else asked[title]


def _title(name: str, asked: Mapping[str, AskedScore]) -> str | None:
    """Return the title of the score that a name is of; the longest one, as parts may have any."""
    found = [title for title in asked if name == title or name.startswith(f"{title}:")]
    return max(found, key=len, default=None)
