"""Loss defence: the rows that a model trained on all of them fits worst are removed.

Koh, Steinhardt, Liang, Stronger Data Poisoning Attacks Break Data Sanitization Defenses, 2018
(Machine Learning 2022), section on the loss defence: a model is trained on all rows, and a fixed
share of each class with the largest losses is discarded (``per: class``). S3 5.6 removes "3% of
training points with the largest loss" over all classes (``per: overall``, the default).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from learning.pool import Pool
from learning.training.job import Training, TrainingRequests
from strategies.base import Defender, Verdict
from strategies.filtering.parts.losses import NO_LOSSES, losses_of
from strategies.filtering.parts.ranked import UNTRAINED, RankedFilter, unjudged, untrained


class LossDefence(RankedFilter):
    """Removes the rows with the largest cross-entropy with their label."""

    kind: Literal["loss_defence"] = "loss_defence"
    paper: ClassVar[str] = "Koh, Steinhardt, Liang, Stronger Data Poisoning Attacks, 2018; S3 5.6"

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool` by the losses of a model trained on all of them."""
        (model,) = yield [Training(pool)]
        losses = losses_of(defender, model, pool, np.arange(len(pool)))
        if losses.none or untrained(model):
            return unjudged(pool, NO_LOSSES if losses.none else UNTRAINED)
        every, notes = np.ones(len(pool), np.bool_), list(losses.notes)
        return self._verdict(losses.odds, every, pool, defender, notes, losses.values)
