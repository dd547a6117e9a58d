"""The cross-ASR matrix: does the trigger of one attacker lead to the target of another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from learning.answers import NO_CLASS
from server.referee.results import CrossASR
from server.referee.scoring.predict import Classes
from server.referee.sealed import RunTimeSet

LIMIT = 100


def cross_asr(
    attackers: Sequence[RunTimeSet], triggered: Mapping[str, Classes], classes: int
) -> CrossASR | None:
    """Return the matrix of the first `LIMIT` attackers with one target each, from counts.

    Args:
        attackers: Their run-time sets, in scenario order.
        triggered: Predicted classes of their triggered inputs, int16 (m,); `NO_CLASS` hits no
            target.
        classes: Number of classes.
    """
    single = [one for one in attackers if one.target is not None and len(one.targets)][:LIMIT]
    targets = [one.target for one in single if one.target is not None]
    if len(single) < 2:
        return None
    return CrossASR(
        agents=tuple(one.agent for one in single),
        targets=tuple(targets),
        matrix=tuple(_row(one, triggered[one.agent], targets, classes) for one in single),
    )


def _row(
    own: RunTimeSet, answers: Classes, targets: Sequence[int], classes: int
) -> tuple[float | None, ...]:
    counts = np.zeros((classes, classes), dtype=np.int64)
    said = answers != NO_CLASS
    np.add.at(counts, (own.y_triggered[said], answers[said]), 1)
    by_answer, by_label = counts.sum(0), np.bincount(own.y_triggered, minlength=classes)
    return tuple(
        float((by_answer[t] - counts[t, t]) / (len(answers) - by_label[t]))
        if len(answers) > by_label[t]
        else None
        for t in targets
    )
