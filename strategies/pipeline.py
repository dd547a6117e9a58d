"""One defender's play: its defences in the order of the scenario, then training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from learning.pool import Pool
from learning.training.job import BatchHook, Steps, Training
from strategies.base import (
    Augmentation,
    Defence,
    Defender,
    Filter,
    Indexing,
    Predictor,
    TrainingHook,
    Verdict,
)


@dataclass(frozen=True)
class Outcome:
    """What a defender ends with.

    Attributes:
        predictor: Answers inputs.
        verdicts: What each filter decided, by its position and kind, in the order of play.
        pool: The pool that was trained on.
    """

    predictor: Predictor
    verdicts: tuple[tuple[str, Verdict], ...]
    pool: Pool


def defend(
    defences: Sequence[Defence], pool: Pool, defender: Defender, asked_by: tuple[str, ...]
) -> Steps[Outcome]:
    """Play one defender.

    Args:
        defences: In the order in which they act.
        pool: All admitted rows.
        defender: What the defender knows.
        asked_by: Agents that will ask the predictor.
    """
    hooks: list[BatchHook] = []
    verdicts: list[tuple[str, Verdict]] = []
    notes: list[str] = []
    indexing: Indexing | None = None
    for defence in defences:
        if isinstance(defence, Filter):
            verdict = yield from defence.inspect(pool, defender)
            pool = pool.without_rows(verdict.removed.tolist())
            verdicts.append((str(getattr(defence, "kind", "")), verdict))
        elif isinstance(defence, Augmentation):
            before, pool = pool, (yield from defence.augment(pool, defender))
            notes += defence.remarks(before, pool)
        elif isinstance(defence, TrainingHook):
            hooks.append(defence)
        elif isinstance(defence, Indexing):
            indexing = defence
    if indexing is not None:
        predictor = yield from indexing.predictor(pool, defender, tuple(hooks), asked_by)
    else:
        models = yield [Training(pool, tuple(hooks))]
        predictor = Predictor(shared=tuple(models))
    predictor = replace(predictor, notes=(*notes, *predictor.notes))
    return Outcome(predictor, tuple(verdicts), pool)
