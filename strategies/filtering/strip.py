"""STRIP: rows whose prediction survives being superimposed with other images.

Gao et al., STRIP: A Defence Against Trojan Attacks on Deep Neural Networks, ACSAC 2019. An input is
superimposed with N clean images; the mean entropy (bits) of the predictions, eq. 3 and 4, is low
where a trigger decides them whatever lies below. The detection boundary is the `frr` quantile of
a normal distribution fitted to the entropies of clean inputs, by maximum likelihood as in the
authors' code: its standard deviation divides by n.

The paper judges inputs at run time, by a model that is already deployed. Here it is used as a
simple reference to judge *training rows*, by a model trained on all of them; clean images are the
defender's own rows, and all rows are superimposed with the same N of them (`ours`; the paper draws
anew for each input). A row that is one of the N is not superimposed with itself, as no input of
the paper's is: it has N - 1 partners.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.pool import DEFENDER, Floats, Ints, Pool
from learning.training.job import Trained, Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.filtering.parts.principal import Doubles
from strategies.filtering.parts.ranked import UNTRAINED, unjudged, untrained
from strategies.filtering.parts.row_draws import RowDraws


class Strip(Filter):
    """Removes the rows of low entropy under superposition; a class may be emptied."""

    kind: Literal["strip"] = "strip"
    paper: ClassVar[str] = "Gao et al., STRIP, ACSAC 2019, eq. 3 and 4; here on training rows"

    images: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Clean images that each row is superimposed with (N); fewer where the defender "
        "has fewer rows.",
        json_schema_extra={"origin": "code"},
    )
    blend: Literal["sum", "mean"] = Field(
        "sum",
        description="`sum`: added and cut to [0, 1], as in the authors' code. `mean`: their mean.",
        json_schema_extra={"origin": "code"},
    )
    frr: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of clean rows that the boundary gives up.",
        json_schema_extra={"origin": "paper"},
    )

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`; the score of a row is minus its mean entropy in bits.

        Where the defender has no rows, clean images and the boundary are taken from all rows, the
        poisoned ones included; a note says so.
        """
        clean = pool.owner_index == (
            pool.owners.index(DEFENDER) if DEFENDER in pool.owners else len(pool.owners)
        )
        notes: tuple[str, ...] = ()
        if not clean.any():
            clean = np.ones(len(pool), np.bool_)
            notes = ("the defender has no rows: the boundary is that of all rows",)
        (model,) = yield [Training(pool)]
        if untrained(model):
            return unjudged(pool, UNTRAINED)
        drawn = RowDraws(pool, defender).sample("strip", clean, self.images)
        itself = np.where(drawn, drawn.cumsum() - 1, -1)
        entropies = mean_entropies(model, pool.x, pool.x[drawn], self.blend, defender, itself)
        if not np.isfinite(entropies).all():
            return unjudged(pool, "the predictions are not finite (training diverged)")
        gone = entropies < boundary(entropies[clean], self.frr)
        return Verdict(pool.ids[gone], pool.ids, -entropies.astype(np.float32), notes)


def mean_entropies(
    model: Trained,
    x: Floats,
    overlays: Floats,
    blend: Literal["sum", "mean"],
    defender: Defender,
    itself: Ints | None = None,
) -> Doubles:
    """Return the mean entropy of the predictions of each superimposed row.

    Args:
        model: Predicts.
        x: Rows, float32 (n, C, H, W), in [0, 1].
        overlays: What each is superimposed with, float32 (N, C, H, W).
        blend: How.
        defender: Computes, in batches.
        itself: For each row the position among `overlays` of its own image, which does not count
            where there are others, or -1; int64 (n,). None: no row is among them.

    Returns:
        float64 (n,), bits.
    """
    out = np.zeros(len(x), np.float64)
    together = max(1, defender.batch_size // len(overlays))
    for first in range(0, len(x), together):
        rows = x[first : first + together]
        both = rows[:, None] + overlays
        both = np.minimum(both, 1) if blend == "sum" else both / 2
        logits = defender.logits(model, both.reshape(-1, *x.shape[1:]).astype(np.float32))
        each = entropies_of(logits).reshape(len(rows), -1)
        if itself is not None and len(overlays) > 1:
            own = np.arange(len(overlays)) == itself[first : first + together, None]
            out[first : first + together] = each.mean(axis=1, where=~own)
        else:
            out[first : first + together] = each.mean(axis=1)
    return out


def entropies_of(logits: Floats) -> Doubles:
    """Return the entropy of the softmax of logits (n, classes), float64 (n,), bits."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    chances = np.exp(shifted - log_sum[:, None])
    return np.asarray((log_sum - (chances * shifted).sum(axis=1)) / np.log(2), np.float64)


def boundary(entropies: Doubles, frr: float) -> float:
    """Return the `frr` quantile of the normal distribution fitted to entropies of clean rows."""
    from scipy.stats import norm

    return float(norm.ppf(frr, entropies.mean(), entropies.std())) if entropies.std() else -np.inf
