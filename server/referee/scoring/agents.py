"""One agent's scores against one defender, from predicted classes; `DEFINITIONS` has the words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.pool import Bools
from server.referee.results import AgentScores, Score
from server.referee.scoring.predict import Classes
from server.referee.scoring.scores import difference, mean_share, share, share_of
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


def agent_scores(own: RunTimeSet, answers: AgentAnswers, malicious: bool) -> AgentScores:
    """Return the agent's scores; those of its backdoor only where it is malicious and has one."""
    accuracy = share_of(answers.clean == own.y)
    if not malicious or not len(own.targets):
        return AgentScores(run_time_accuracy=accuracy)
    counted, found = own.counted, counted_hits(own, answers)
    y, clean = own.y_triggered, answers.clean[own.triggered_rows]
    hits, right = answers.triggered == own.targets, answers.triggered == y
    alone = found.alone
    return AgentScores(
        run_time_accuracy=accuracy,
        asr=share_of(hits[counted]),
        asr_all=share_of(hits),
        asr_source=None
        if own.source is None or own.unchanged
        else share_of(((clean == y) & hits)[y == own.source]),
        robust_accuracy=share_of(right[counted]),
        robust_accuracy_all=share_of(right),
        asr_untrained=None if found.untrained is None else mean_share(found.untrained),
        asr_together=None if alone is None else mean_share(found.together),
        asr_alone=None if alone is None else mean_share(alone),
        interference=None if alone is None else difference([(alone, found.together)]),
        asr_part=None if answers.part is None else share_of((answers.part == own.targets)[counted]),
        guess_accuracy=None
        if answers.guessed is None
        else share(answers.guessed, len(own.targets)),
        clean_accuracy_alone=answers.accuracy_alone,
    )
