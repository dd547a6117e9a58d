"""k-NN label sanitisation: rows whose neighbours agree on another label are removed.

Paudice, Munoz-Gonzalez, Lupu, Label Sanitization against Label Flipping Poisoning Attacks, ECML
PKDD Workshops 2018, Algorithm 1: where a share of at least eta of the k nearest rows (Euclidean)
carries one label, the row is given that label. A filter cannot give labels, so a row that would be
given another one is removed. Peri et al., Deep k-NN Defense against Clean-Label Data Poisoning,
2020, does so in the features of a trained model (``space: features``).

Rows as far away as the k-th neighbour count as neighbours too, so that the order of rows does not
decide between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from learning.curvature.last_layer import GIB
from learning.pool import Floats, Ints, Pool
from learning.training.job import Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.filtering.parts.principal import Doubles
from strategies.filtering.parts.ranked import UNTRAINED, unjudged, untrained

if TYPE_CHECKING:
    from torch import Tensor

# Squared distances closer than this share of the largest norm are equal but for rounding.
_ROUNDING = 1e-12


class NearestLabels(Filter):
    """Removes the rows that their neighbours outvote; a class may be emptied."""

    kind: Literal["nearest_labels"] = "nearest_labels"
    paper: ClassVar[str] = "Paudice et al., Label Sanitization, 2018, Alg. 1; Peri et al. 2020"

    k: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Neighbours of each row; all others where there are fewer.",
        json_schema_extra={"origin": "ours"},
    )
    eta: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the neighbours that must carry one other label; the paper tunes it "
        "between 0.5 and 1.",
        json_schema_extra={"origin": "ours"},
    )
    space: Literal["inputs", "features"] = Field(
        "inputs",
        description="Where rows are near: as they are, or in the last features of a model trained "
        "on all of them.",
        json_schema_extra={"origin": "deduced"},
    )

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`.

        The score of a row is the share of its neighbours that carry the most frequent other label.
        """
        if self.space == "features":
            (model,) = yield [Training(pool)]
            if untrained(model):
                return unjudged(pool, UNTRAINED)
            points = defender.features(model, pool.x)
        else:
            yield from ()
            points = pool.x.reshape(len(pool), -1)
        if not np.isfinite(points).all():
            return unjudged(pool, "the features are not finite (training diverged)")
        votes = neighbour_labels(points, pool.y, pool.classes, self.k, defender)
        shares = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
        own = np.take_along_axis(shares, pool.y[:, None], axis=1)[:, 0]
        np.put_along_axis(shares, pool.y[:, None], 0.0, axis=1)
        scores = shares.max(axis=1)
        gone = (scores >= self.eta) & (scores > own)
        return Verdict(pool.ids[gone], pool.ids, scores.astype(np.float32))


def neighbour_labels(
    points: Floats, labels: Ints, classes: int, k: int, defender: Defender
) -> Doubles:
    """Count the labels of each row's neighbours, itself left out.

    Args:
        points: Finite, float32 (n, d).
        labels: int64 (n,).
        classes: Number of classes.
        k: Neighbours; rows as far away as the k-th count too.
        defender: Says where and in how much memory to compute.

    Returns:
        float64 (n, classes).
    """
    device = torch.device("cpu") if defender.device.type == "mps" else defender.device
    rows = torch.from_numpy(points).to(device, torch.float64)
    rows -= rows.mean(0)
    norms = rows.square().sum(1)
    told = torch.nn.functional.one_hot(torch.from_numpy(labels).to(device), classes).double()
    out, k = torch.zeros_like(told), min(k, len(rows) - 1)
    chunk = max(1, int(defender.memory_gib * GIB / 4 / (4 * 8 * max(1, len(rows)))))
    for first in range(0, len(rows), chunk) if k else ():
        some = torch.arange(first, min(first + chunk, len(rows)), device=device)
        near = _near(rows, norms, some, k)
        out[some] = near.double() @ told
    return np.asarray(out.cpu().numpy(), np.float64)


def _near(rows: Tensor, norms: Tensor, some: Tensor, k: int) -> Tensor:
    """Return which rows are neighbours of some of them, bool (chunk, n)."""
    apart = norms[some, None] + norms - 2 * rows[some] @ rows.T
    apart[torch.arange(len(some), device=some.device), some] = float("inf")
    farthest = apart.kthvalue(k, dim=1, keepdim=True).values
    return apart <= farthest + _ROUNDING * norms.max()
