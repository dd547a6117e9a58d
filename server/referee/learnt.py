"""When a model counts as one that has learnt."""

from __future__ import annotations

from server.referee.results import Score

LEARNT = 0.1


def needed_accuracy(constant: float) -> float:
    """Return the clean accuracy that a model must surely exceed to have learnt, 0..1.

    Args:
        constant: Accuracy of the best constant answer, 0..1.
    """
    return constant + LEARNT * (1 - constant)


def has_learnt(accuracy: Score, constant: float) -> bool:
    """Return whether a model surely answers better than a constant, by a margin."""
    return accuracy.value is not None and accuracy.low > needed_accuracy(constant)
