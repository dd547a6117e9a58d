"""The loss of each row under a model, and the rows of a pool that a mask picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from learning.pool import Bools, Floats, Ints, Pool
from learning.training.job import Trained
from strategies.base import Defender
from strategies.filtering.parts.principal import Doubles

# Rows are gathered from the pool piece by piece, so that no second copy of it is ever made.
_PIECE = 8


def part(pool: Pool, chosen: Bools) -> Pool:
    """Return the rows of `pool` where `chosen`, bool (n,), in the order of its ids, is true."""
    return pool.without_rows(pool.ids[~chosen].tolist())


def logits_of(defender: Defender, model: Trained, pool: Pool, rows: Ints) -> Floats:
    """Return the logits of the rows at positions `rows`, int64 (k,), float32 (k, classes)."""
    size = _PIECE * defender.batch_size
    pieces = [rows[first : first + size] for first in range(0, len(rows), size)]
    found = [defender.logits(model, pool.x[piece]) for piece in pieces]
    return np.concatenate(found) if found else np.zeros((0, pool.classes), np.float32)


NO_LOSSES: Final = "no row has a finite loss (training diverged)"


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of k rows under a model.

    A row whose logits are not all finite has none. It is treated as an average row, neither
    suspicious nor trusted: it counts as the mean of the others (0 where there are no others).

    Attributes:
        values: Cross-entropies, float64 (k,), nats.
        odds: Rank the rows as their losses do, and tell those apart whose losses round to 0,
            float64 (k,): log((1 - p) / p), p the softmax of the label.
        missing: How many rows have none.
    """

    values: Doubles
    odds: Doubles
    missing: int

    @property
    def none(self) -> bool:
        """Whether no row has a loss, so that nothing can be told from them."""
        return 0 < len(self.values) == self.missing

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report should say."""
        if not self.missing:
            return ()
        return (
            f"{self.missing} of {len(self.values)} rows have no finite loss and count as the mean "
            "of the others",
        )


def losses_of(defender: Defender, model: Trained, pool: Pool, rows: Ints) -> Losses:
    """Return the losses of the rows at positions `rows`, int64 (k,)."""
    logits = logits_of(defender, model, pool, rows).astype(np.float64)
    sound = np.isfinite(logits).all(axis=1)
    values, odds = np.zeros(len(rows)), np.zeros(len(rows))
    odds[sound] = odds_against(logits[sound], pool.y[rows][sound])
    values[sound] = np.logaddexp(0, odds[sound])
    if sound.any() and not sound.all():
        values[~sound] = values[sound].mean()
        odds[~sound] = _odds_of(float(values[sound].mean()), odds[sound])
    return Losses(values, odds, int((~sound).sum()))


def _odds_of(loss: float, others: Doubles) -> float:
    """Return the odds that have a loss; the mean of others' odds where it is rounded to 0."""
    return loss + float(np.log(-np.expm1(-loss))) if loss > 0 else float(others.mean())


def odds_against(logits: Doubles, labels: Ints) -> Doubles:
    """Return log((1 - p) / p), p the softmax of the label, of each row, float64 (n,).

    Args:
        logits: Finite, float64 (n, classes), of two classes at least.
        labels: int64 (n,), in 0..classes-1.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    others = np.array(logits)
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    largest = others.max(axis=1, keepdims=True, initial=-np.inf)
    spread = np.log(np.exp(others - largest).sum(axis=1))
    return np.asarray(largest[:, 0] + spread - own[:, 0], np.float64)


def cross_entropies(logits: Doubles, labels: Ints) -> Doubles:
    """Return -log softmax(logits)[label] of each row, float64 (n,); see `odds_against`."""
    return np.asarray(np.logaddexp(0, odds_against(logits, labels)), np.float64)
