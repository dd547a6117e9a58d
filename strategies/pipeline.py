"""One defender's play: its defences in the order of the scenario, then training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from learning.pool import Pool
from learning.training.job import BatchHook, Training, TrainingRequests
from strategies.base import (
    Augmentation,
    Defence,
    Defender,
    Filter,
    Indexing,
    Predictor,
    TrainingHook,
    Unfiltered,
    Verdict,
)


@dataclass(frozen=True)
class Outcome:
    """What a defender ends with.

    Attributes:
        predictor: Answers inputs.
        verdicts: What each filter decided, by its position and kind, in the order of play.
        pool: The pool that the models of everybody were trained on.
    """

    predictor: Predictor
    verdicts: tuple[tuple[str, Verdict], ...]
    pool: Pool


def defend(
    defences: Sequence[Defence], pool: Pool, defender: Defender, asked_by: tuple[str, ...]
) -> TrainingRequests[Outcome]:
    """Play one defender.

    Args:
        defences: In the order in which they act.
        pool: All admitted rows.
        defender: What the defender knows.
        asked_by: Agents that will ask the predictor.
    """
    hooks: list[BatchHook] = []
    before: list[Filter | Augmentation] = []
    indexing: Indexing | None = None
    for defence in defences:
        if isinstance(defence, Filter | Augmentation):
            before.append(defence)
        elif isinstance(defence, TrainingHook):
            hooks.append(defence)
        elif isinstance(defence, Indexing):
            indexing = defence
    left, verdicts, notes = yield from _prepared(before, pool, defender)
    if indexing is None:
        predictor = Predictor(shared=tuple((yield [Training(left, tuple(hooks))])))
    elif indexing.within_parts:
        unfiltered = Unfiltered(pool, lambda rows: _left(before, rows, defender))
        predictor = yield from indexing.predictor(
            left, defender, tuple(hooks), asked_by, unfiltered
        )
    else:
        predictor = yield from indexing.predictor(left, defender, tuple(hooks), asked_by)
    predictor = replace(predictor, notes=(*notes, *predictor.notes))
    return Outcome(predictor, verdicts, left)


def _prepared(
    before: Sequence[Filter | Augmentation], pool: Pool, defender: Defender
) -> TrainingRequests[tuple[Pool, tuple[tuple[str, Verdict], ...], tuple[str, ...]]]:
    """Play filters and augmentations; return what is left, the verdicts, and remarks."""
    verdicts: list[tuple[str, Verdict]] = []
    notes: list[str] = []
    for defence in before:
        if isinstance(defence, Filter):
            verdict = yield from defence.inspect(pool, defender)
            pool = pool.without_rows(verdict.removed.tolist())
            verdicts.append((str(getattr(defence, "kind", "")), verdict))
        else:
            given, pool = pool, (yield from defence.augment(pool, defender))
            notes += defence.remarks(given, pool)
    return pool, tuple(verdicts), tuple(notes)


def _left(
    before: Sequence[Filter | Augmentation], pool: Pool, defender: Defender
) -> TrainingRequests[Pool]:
    return (yield from _prepared(before, pool, defender))[0]
