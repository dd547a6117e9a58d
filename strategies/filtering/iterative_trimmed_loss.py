"""Iterative trimmed loss minimisation: train, keep the rows with the lowest losses, again.

Shen, Sanghavi, Learning with Bad Training Data via Iterative Trimmed Loss Minimization, ICML 2019
(arXiv 1810.11874); S2 B.1:

    S_0 = all rows
    for t = 1..T:   train a fresh model on S_{t-1}
                    S_t = the share alpha of all rows that it has the lowest losses on

S_T is kept. 1 - alpha bounds the poison from above, which the defender is told. S2 takes 98 % at
5 % poison of one of ten classes, 96 % at 10 %, 92 % at 20 %. All fresh models of a game start
from the same weights.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.pool import Pool
from learning.shares import count_of
from learning.training.job import Trained, Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.filtering.parts.losses import NO_LOSSES, losses_of, part
from strategies.filtering.parts.ranked import UNTRAINED, in_float32, unjudged, untrained
from strategies.filtering.parts.row_draws import RowDraws
from strategies.filtering.parts.trimming import lowest


class IterativeTrimmedLoss(Filter):
    """Removes the rows with the highest losses after the last round; these are the scores."""

    kind: Literal["iterative_trimmed_loss"] = "iterative_trimmed_loss"
    paper: ClassVar[str] = "Shen, Sanghavi, Iterative Trimmed Loss Minimization, ICML 2019"

    kept_share: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Share of the rows that is kept (alpha; halves up, at least one row): 1 - an "
        "upper bound on the poisoned share, which the defender is told.",
        json_schema_extra={"origin": "paper"},
    )
    rounds: int = Field(
        5,
        ge=1,
        le=1000,
        description="Trainings, each followed by a choice of rows; S2 says `several`.",
        json_schema_extra={"origin": "ours"},
    )
    first_epochs: int = Field(
        80,
        ge=1,
        le=100_000,
        description="Epochs of the first round.",
        json_schema_extra={"origin": "paper"},
    )
    epochs: int = Field(
        40,
        ge=1,
        le=100_000,
        description="Epochs of each further round.",
        json_schema_extra={"origin": "paper"},
    )
    restart: bool = Field(
        True,
        description="Each round trains a fresh model (S2); false: goes on with the last one.",
        json_schema_extra={"origin": "paper"},
    )

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`."""
        if not len(pool):
            return Verdict(pool.ids, pool.ids, np.zeros(0, np.float32), ())
        rows = np.arange(len(pool), dtype=np.int64)
        ties = RowDraws(pool, defender).uniform("trimmed loss/ties")
        keep = np.ones(len(pool), np.bool_)
        count = max(1, count_of(self.kept_share, len(pool)))
        model: Trained | None = None
        for turn in range(self.rounds):
            asked = Training(
                part(pool, keep),
                start=None if self.restart else model,
                epochs=self.epochs if turn else self.first_epochs,
                purpose=f"trimmed loss/{turn}",
            )
            (model,) = yield [asked]
            losses = losses_of(defender, model, pool, rows)
            if losses.none or untrained(model):
                why = NO_LOSSES if losses.none else UNTRAINED
                return unjudged(pool, f"round {turn + 1}: {why}")
            keep = lowest(losses.odds, count, ties)
        return Verdict(pool.ids[~keep], pool.ids, in_float32(losses.values), losses.notes)
