"""What filters that remove the rows with the highest scores have in common."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from pydantic import Field, model_validator

from learning.pool import Bools, Floats, Ints, Pool
from learning.shares import count_of
from learning.training.job import Trained
from strategies.base import Defender, Filter, Verdict
from strategies.checks import refuse_unused
from strategies.filtering.parts.principal import Doubles
from strategies.filtering.parts.row_draws import RowDraws


class RankedFilter(Filter):
    """Removes the rows with the highest scores, by share or by count; empties no class."""

    remove: Literal["share", "count"] = Field(
        "share",
        description="`share`: that share of the rows. `count`: that many rows.",
        json_schema_extra={"origin": "paper"},
    )
    share: float = Field(
        0.03,
        ge=0,
        le=1,
        description="Share of the rows (of each class, with per: class) to remove, the defender's "
        "guess of the poison (halves up); S3 removes 3 %. Read with remove: share.",
        json_schema_extra={"origin": "paper"},
    )
    count: int = Field(
        5,
        ge=0,
        description="Rows to remove (of each class, with per: class); read with remove: count.",
        json_schema_extra={"origin": "ours"},
    )
    per: Literal["class", "overall"] = Field(
        "overall",
        description="Whether the highest scores of each class are removed or those of all rows.",
        json_schema_extra={"origin": "paper"},
    )

    @model_validator(mode="after")
    def _check_removal(self) -> RankedFilter:
        refuse_unused(self, "remove", {"share": ("share",), "count": ("count",)})
        return self

    def _verdict(
        self,
        scores: Doubles,
        eligible: Bools,
        pool: Pool,
        defender: Defender,
        notes: list[str],
        told: Doubles | None = None,
    ) -> Verdict:
        """Return the verdict that scores lead to.

        Args:
            scores: What rows are ranked by, float64 (n,), finite.
            eligible: Rows that may be removed, bool (n,).
            pool: The rows.
            defender: Breaks ties.
            notes: For the report.
            told: The scores of the report where they are others of the same order, float64 (n,).
        """
        ties = RowDraws(pool, defender).uniform("ties")
        amount: float = self.share if self.remove == "share" else self.count
        chosen = highest(scores, pool.y, amount, self.per, ties, eligible)
        shown = scores if told is None else told
        return Verdict(pool.ids[chosen], pool.ids, in_float32(shown), tuple(notes))


def highest(
    scores: Doubles,
    labels: Ints,
    amount: float,
    per: Literal["class", "overall"],
    ties: Doubles,
    eligible: Bools | None = None,
) -> Bools:
    """Return the rows with the highest scores, bool (n,); each class keeps its lowest ones.

    So no class is emptied, and rows that all score alike are no suspects.

    Args:
        scores: float64 (n,), finite.
        labels: int64 (n,).
        amount: A share of the rows as a float, or their number as an int.
        per: Whether `amount` is of each class or of all rows.
        ties: Decides between equal scores: the higher one goes; float64 (n,).
        eligible: Rows that may be chosen, bool (n,); None for all.
    """
    may = np.ones(len(scores), np.bool_) if eligible is None else eligible.copy()
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    out = np.zeros(len(scores), np.bool_)
    for own in classes:
        may[own[scores[own] == scores[own].min()]] = False
    for rows in classes if per == "class" else [np.arange(len(scores))]:
        count = amount if isinstance(amount, int) else count_of(amount, len(rows))
        open_rows = rows[may[rows]]
        order = open_rows[np.lexsort((ties[open_rows], scores[open_rows]))[::-1]]
        out[order[:count]] = True
    return out


def in_float32(scores: Doubles) -> Floats:
    """Return scores as a verdict holds them, float32 (n,); what is too large for it is its largest.

    Args:
        scores: float64 (n,), finite.
    """
    largest = np.finfo(np.float32).max
    return np.clip(scores, -largest, largest).astype(np.float32)


UNTRAINED: Final = "the training diverged before it had learned anything"


def untrained(model: Trained) -> bool:
    """Return whether a model holds the weights that its training began with.

    The engine puts a training that diverges back to where it was an epoch before: in its first
    epoch, to the start.
    """
    return model.epochs == 0


def unjudged(pool: Pool, why: str) -> Verdict:
    """Return the verdict that removes nothing, with a note that says why."""
    note = f"{why}: nothing was removed"
    return Verdict(pool.ids[:0], pool.ids, np.zeros(len(pool), np.float32), (note,))
