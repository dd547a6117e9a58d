"""Accuracy of what a defender ends with, on clean test inputs and on its validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from learning.pool import Ints
from server.referee.results import Score
from server.referee.scoring.scores import share

if TYPE_CHECKING:
    from server.referee.scoring.answers import ToAll
    from strategies.base import Predictor


def clean_accuracy(answers: Sequence[ToAll], y: Ints) -> Score:
    """Return the share of test inputs predicted as their label, averaged over asking agents.

    Args:
        answers: To the test inputs; see `answer_everybody`.
        y: True labels, int64 (n,).
    """
    hits = clean_hits(answers, y)
    return share(min(float(hits.sum()), len(hits)), len(hits))


def clean_hits(answers: Sequence[ToAll], y: Ints) -> NDArray[np.float64]:
    """Return for each test input the share of asking agents that are answered right, (n,)."""
    agents = sum(count for _, count in answers)
    hits = np.zeros(len(y), np.int64)
    for classes, count in answers:
        hits += (classes == y) * count
    return hits / agents


def validation_accuracy(predictor: Predictor) -> Score | None:
    """Return how many of the rows that its training held out the one model of a defender has right.

    Labels are those of the pool, poisoned ones too. None without held-out rows, and where there
    are several models.
    """
    if len(predictor.shared) != 1 or predictor.by_agent:
        return None
    validated = predictor.shared[0].validated
    return None if validated is None else share(*validated)
