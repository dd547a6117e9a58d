"""A defender beside the reference: the same inputs, answered by both, compared one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.pool import Bools
from server.referee.results import DefenderScores, Difference
from server.referee.scoring.scores import difference


@dataclass(frozen=True, eq=False)
class Scored:
    """One defender's scores, and the answers that a comparison with another needs.

    Attributes:
        scores: What goes into the result.
        right: For each test input the share of asking agents that are answered right, (n,).
        hits: For each malicious agent which of its counted inputs are predicted as the target in
            the attacked game, bool (k,).
        members: Malicious agents with a backdoor by group.
    """

    scores: DefenderScores
    right: NDArray[np.float64]
    hits: Mapping[str, Bools]
    members: Mapping[str, tuple[str, ...]]


def beside(own: Scored, reference: Scored) -> DefenderScores:
    """Return a defender's scores with its differences from the reference, own - reference."""
    groups = {
        name: scores.model_copy(update={"against": _asr(own, reference, own.members[name])})
        for name, scores in own.scores.groups.items()
    }
    clean = difference([(own.right, reference.right)])
    return own.scores.model_copy(update={"groups": groups, "clean_against": clean})


def _asr(own: Scored, reference: Scored, agents: tuple[str, ...]) -> Difference | None:
    pairs = [(own.hits[name], reference.hits[name]) for name in agents if name in reference.hits]
    return difference(pairs) if pairs else None
