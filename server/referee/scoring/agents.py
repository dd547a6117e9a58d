"""What one agent was answered, and which answers its backdoor wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.pool import Bools
from server.referee.results import Score
from server.referee.scoring.predict import Classes
from server.referee.sealed import RunTimeSet


@dataclass(frozen=True, eq=False)
class AgentAnswers:
    """What one agent was answered, as predicted classes, int16.

    Attributes:
        clean: To its clean inputs in the attacked game, for each run-time row, (m,).
        together: To its k triggered inputs in the attacked game, (trainings, k); the first training
            is the game itself.
        guessed: How many of its triggered inputs the defender thought were its, where it guesses.
        untrained: To its triggered inputs in the attacker-free game, (trainings, k), where that was
            played.
        alone: To its triggered inputs in the game that it attacks alone, (trainings, k), where that
            was played.
        part: To its inputs with its own part of the trigger, in the attacked game, (k,), where it
            has a part.
        accuracy_alone: Clean accuracy in the game that it attacks alone.
    """

    clean: Classes
    together: Classes
    guessed: int | None = None
    untrained: Classes | None = None
    alone: Classes | None = None
    part: Classes | None = None
    accuracy_alone: Score | None = None

    @property
    def triggered(self) -> Classes:
        """The answers to its triggered inputs in the attacked game itself, (k,)."""
        first: Classes = self.together[0]
        return first


@dataclass(frozen=True, eq=False)
class CountedHits:
    """Of the inputs that `asr` counts, which were predicted as the target, bool (trainings, n).

    Attributes:
        together: In the attacked game.
        untrained: In the game without attackers, where that was played.
        alone: In the game that the agent attacks alone, where that was played.
    """

    together: Bools
    untrained: Bools | None
    alone: Bools | None


def counted_hits(own: RunTimeSet, answers: AgentAnswers) -> CountedHits:
    """Return the hits that `asr`, its controls and their differences are made of."""

    def hits(classes: Classes | None) -> Bools | None:
        return None if classes is None else np.asarray(classes == own.targets)[:, own.counted]

    together = np.asarray(answers.together == own.targets)[:, own.counted]
    return CountedHits(together, hits(answers.untrained), hits(answers.alone))
