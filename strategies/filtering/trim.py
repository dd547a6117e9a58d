"""TRIM: the linear model and the rows that it fits best, found in turns.

Jagielski, Oprea, Biggio, Liu, Nita-Rotaru, Li, Manipulating Machine Learning: Poisoning Attacks
and Countermeasures for Regression Learning, IEEE S&P 2018, Algorithm 2:

    I_0 = a random subset of n rows, theta_0 = the model fitted to it
    repeat:   I_i     = the n rows with the lowest losses under theta_{i-1}
              theta_i = the model fitted to I_i
              R_i     = the mean loss of theta_i on I_i
    until R_i no longer falls

n, the number of clean rows, follows from an upper bound on the poison that the defender is told.
The paper's model is linear regression; here it is softmax regression with its cross-entropy, the
linear model of a classification game. R falls with every turn where the fit is exact; a training
of too few epochs ends it early, and the smallest R found is the one that counts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from learning.pool import Bools, Pool
from learning.shares import count_of
from learning.training.job import Trained, Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.filtering.parts.losses import Losses, losses_of, part
from strategies.filtering.parts.ranked import in_float32, unjudged, untrained
from strategies.filtering.parts.row_draws import RowDraws
from strategies.filtering.parts.trimming import lowest


class Trim(Filter):
    """Removes the rows outside the subset that a linear model fits best.

    Attributes:
        linear_only: Scenarios with another model are refused.
    """

    kind: Literal["trim"] = "trim"
    paper: ClassVar[str] = "Jagielski et al., Manipulating Machine Learning (TRIM), IEEE S&P 2018"
    linear_only: ClassVar[bool] = True

    expected_poison: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Upper bound on the poisoned share of all rows that the defender is told; so "
        "many rows are removed (halves up; one row is always kept).",
        json_schema_extra={"origin": "ours"},
    )
    max_turns: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Turns at most.",
        json_schema_extra={"origin": "ours"},
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Epochs of each fit; null: training.epochs.",
        json_schema_extra={"origin": "ours"},
    )

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`; scores are the losses under the model that fits best.

        Raises:
            ValueError: If the game's model is not linear.
        """
        if not len(pool):
            return Verdict(pool.ids, pool.ids, np.zeros(0, np.float32), ())
        draws = RowDraws(pool, defender)
        count = max(1, len(pool) - count_of(self.expected_poison, len(pool)))
        keep = draws.sample("trim/start", np.ones(len(pool), np.bool_), count)
        losses = yield from self._fitted(pool, defender, keep)
        best, found, fell, turn = np.inf, keep, True, 0
        while losses is not None and fell and turn < self.max_turns:
            turn += 1
            keep = lowest(losses.odds, count, draws.uniform("trim/ties"))
            after = yield from self._fitted(pool, defender, keep)
            loss = np.inf if after is None else float(after.values[keep].mean())
            fell = loss < best
            if fell:
                best, found, losses = loss, keep, after
        if losses is None or not np.isfinite(best):
            return unjudged(pool, "no fit of the linear model has learned anything (it diverged)")
        how = f"{turn} turns, still falling" if fell else f"{turn} turns"
        told = f"{how}, mean loss {best:.4g} on the rows kept"
        scores = in_float32(losses.values)
        return Verdict(pool.ids[~found], pool.ids, scores, (told, *losses.notes))

    def _fitted(
        self, pool: Pool, defender: Defender, keep: Bools
    ) -> TrainingRequests[Losses | None]:
        """Fit a model to the rows `keep`; return its losses on all rows, None if it diverged."""
        (model,) = yield [Training(part(pool, keep), epochs=self.epochs, purpose="trim")]
        _check_linear(model)
        losses = losses_of(defender, model, pool, np.arange(len(pool), dtype=np.int64))
        return None if losses.none or untrained(model) else losses


def _check_linear(model: Trained) -> None:
    layers = [part for part in model.module.modules() if [*part.parameters(recurse=False)]]
    if len(layers) > 1 or not all(isinstance(layer, torch.nn.Linear) for layer in layers):
        raise ValueError("trim: expected a linear model (model: {kind: softmax}), got more layers")
