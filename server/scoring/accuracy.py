"""Accuracy of what a defender ends with, on clean test inputs and on its validation rows."""

from __future__ import annotations

from collections.abc import Sequence

from learning.pool import Floats, Ints
from server.results import Score
from server.scoring.answers import Engine, answer_everybody
from server.scoring.rows import Rows
from server.scoring.scores import share
from strategies.base import Predictor


def clean_accuracy(
    predictor: Predictor, x: Floats, y: Ints, asking: Sequence[str], engine: Engine
) -> Score:
    """Return the share of test inputs predicted as their label, averaged over asking agents.

    Args:
        predictor: The defender's; each distinct set of its models sees the test set once.
        x: Test inputs, float32 (n, C, H, W).
        y: True labels, int64 (n,).
        asking: Agents to average over.
        engine: How to compute.
    """
    answers = answer_everybody(predictor, Rows([x]), asking, engine)
    agents = sum(count for _, count in answers)
    hits = sum(int((classes == y).sum()) * count for classes, count in answers)
    return share(hits / agents, len(y))


def validation_accuracy(predictor: Predictor) -> Score | None:
    """Return how many of the rows that its training held out the one model of a defender has right.

    Labels are those of the pool, poisoned ones too. None without held-out rows, and where there
    are several models.
    """
    if len(predictor.shared) != 1 or predictor.by_agent:
        return None
    validated = predictor.shared[0].validated
    return None if validated is None else share(*validated)
