"""Spectral signatures: rows that stand out along the top singular direction of their class.

Tran, Li, Madry, Spectral Signatures in Backdoor Attacks, NeurIPS 2018, Algorithm 1:

    for each label y:  M = [R(x_i) - mean R]_i,  v = top right singular vector of M,
                       tau_i = ((R(x_i) - mean R) . v)^2,
                       remove the rows with the top 1.5 eps scores, then retrain

R is the input of the last linear layer, eps an upper bound on the poison that the defender is
told. Much published code takes the direction from centred features but the score from uncentred
ones; here both are centred, as in the paper. v comes from `eigh` of the smaller of the two Gram
matrices of M, not from a singular value decomposition.

S0 A.2.6 removes "the top 5 scores" (one attacker) or "the top 500" (100 attackers) instead and
does not say whether per class: ``remove: count`` with `count` and `per`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from learning.pool import Bools, Floats, Ints, Pool
from learning.shares import count_of
from learning.training.job import Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.checks import refuse_unused
from strategies.filtering.parts.principal import Doubles, centre, project
from strategies.filtering.parts.ranked import UNTRAINED, in_float32, unjudged, untrained


class SpectralSignatures(Filter):
    """Removes the rows with the highest spectral scores.

    A class in which no row stands out at all (fewer than three rows, or all features alike) is
    left alone, and no class is ever emptied.
    """

    kind: Literal["spectral_signatures"] = "spectral_signatures"
    paper: ClassVar[str] = "Tran, Li, Madry, Spectral Signatures, NeurIPS 2018, Algorithm 1"

    remove: Literal["rate", "count"] = Field(
        "rate",
        description="`rate`: multiplier x expected_poison of each class. `count`: the top `count` "
        "scores, as in S0.",
        json_schema_extra={"origin": "paper"},
    )
    expected_poison: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Upper bound on the poisoned share of a class that the defender is told; "
        "read with remove: rate.",
        json_schema_extra={"origin": "ours"},
    )
    multiplier: float = Field(
        1.5,
        gt=0,
        le=100,
        description="How many times the expected poison is removed (halves up); read with remove: "
        "rate.",
        json_schema_extra={"origin": "paper"},
    )
    count: int = Field(
        5,
        ge=0,
        description="Rows to remove; read with remove: count. S0: 5 for one attacker, 500 for 100.",
        json_schema_extra={"origin": "paper"},
    )
    per: Literal["class", "overall"] = Field(
        "overall",
        description="Whether `count` is for each class or over all classes; S0 does not say.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_unused(self) -> SpectralSignatures:
        uses = {"rate": ("expected_poison", "multiplier"), "count": ("count", "per")}
        refuse_unused(self, "remove", uses)
        return self

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool` by the features of a model trained on all of them."""
        (model,) = yield [Training(pool)]
        if untrained(model):
            return unjudged(pool, UNTRAINED)
        features = defender.features(model, pool.x)
        if not np.isfinite(features).all():
            return unjudged(pool, "the features are not finite (training diverged)")
        scores = spectral_scores(features, pool.y)
        suspects = self._suspects(scores, pool.y)
        return Verdict(pool.ids[suspects], pool.ids, in_float32(scores))

    def _suspects(self, scores: Doubles, labels: Ints) -> Bools:
        classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        ranked = scores.copy()
        ranked[[rows[np.argmin(scores[rows])] for rows in classes]] = 0
        out = np.zeros(len(scores), np.bool_)
        if self.remove == "count" and self.per == "overall":
            out[_top(ranked, self.count)] = True
            return out
        for rows in classes:
            share = self.multiplier * self.expected_poison
            count = self.count if self.remove == "count" else count_of(share, len(rows))
            out[rows[_top(ranked[rows], count)]] = True
        return out


def _top(scores: Doubles, count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` highest positive scores; ties go to the lower one."""
    order = np.argsort(-scores, kind="stable")[:count]
    return order[scores[order] > 0]


def spectral_scores(features: Floats | Doubles, labels: Ints) -> Doubles:
    """Return Tran et al.'s outlier score of each row within its class.

    Args:
        features: Float (n, d), finite.
        labels: int64 (n,).

    Returns:
        float64 (n,), >= 0: the squared projection of the centred features of a row on the top
        right singular vector of its class; 0 in a class without any spread.
    """
    scores = np.zeros(len(labels), np.float64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        projected = project(centre(features[rows]), 1)
        if len(rows) >= 3 and projected.shape[1]:  # two rows are each other's mirror image
            scores[rows] = projected[:, 0] ** 2
    return scores
