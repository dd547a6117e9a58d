"""Inverse self-paced learning with boosting: an ensemble of weak learners votes poison out.

Defending against Backdoor Attacks using Ensembles of Weak Learners (S2), Algorithms 1 and 2, B.1.
Poison and clean rows are incompatible: training on the one does not help on the other. So a set
of rows on which a model generalises best from a sample of it is all clean or all poison.

    S0 = S, L = 0                                        Algorithm 2, for one component
    for t = 1..N:   train on a share alpha of S_{t-1}    from the weights of the step before
                    L = eta L + (1 - eta) losses on S
                    S_t = rows of S under the quantile beta_t of L, or under that of their class

    a weak learner is trained on S_N; S loses S_N; again, `rounds` times, in `runs` runs
    a row stays if most of all learners predict its label                           (Algorithm 1)
    from there a fresh model, every few epochs, goes on with the rows whose labels it predicts

S2 returns the rows of the last epochs of this self-training and trains anew on them; here that
training is the defender's own, so the epochs after the last change of rows are not played.

All models of a game start from the same weights: weak learners differ by their rows and by the
order of these. What the defender's training has besides (schedule, augmentation, early stopping)
applies to each model within its own epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from learning.answers import NO_CLASS, decided_rows
from learning.pool import Bools, Ints, Pool
from learning.shares import count_of
from learning.training.job import Trained, Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.filtering.parts.lockstep import in_lockstep
from strategies.filtering.parts.losses import logits_of, losses_of, part
from strategies.filtering.parts.principal import Doubles
from strategies.filtering.parts.ranked import unjudged, untrained
from strategies.filtering.parts.row_draws import RowDraws
from strategies.filtering.parts.trimming import ballots, trimmed, winners

# What `preset: fast` sets where a scenario says nothing: fewer epochs, and nothing else.
FAST: Final[Mapping[str, object]] = MappingProxyType(
    {
        "warmup_epochs": 2,
        "epochs": 1,
        "learner_epochs": 10,
        "self_training_epochs": 20,
        "self_training_every": 2,
    }
)


class InverseSelfPaced(Filter):
    """Removes rows whose label the ensemble, and a model trained on what it keeps, does not share.

    A row's score is 1 - the smoothed share of self-training's checks in which its label was
    predicted; without self-training, the share of learners that vote for another label.
    """

    kind: Literal["inverse_self_paced"] = "inverse_self_paced"
    paper: ClassVar[str] = "S2, Ensembles of Weak Learners, Algorithms 1 and 2, B.1 (2021)"

    preset: Literal["paper", "fast"] = Field(
        "paper",
        description="`fast` is for MNIST-size data on two CPU cores: 2 epochs of warm-up, 1 in "
        "each iteration, 10 for a weak learner, 20 of self-training with a choice of rows every "
        "2, unless the scenario gives these itself; the method is the same.",
        json_schema_extra={"origin": "ours"},
    )
    rounds: int = Field(
        8,
        ge=1,
        le=1000,
        description="Components that a run takes out, one after another.",
        json_schema_extra={"origin": "paper"},
    )
    runs: int = Field(
        3,
        ge=1,
        le=100,
        description="Runs over all rows; rounds x runs weak learners vote.",
        json_schema_extra={"origin": "paper"},
    )
    subset: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Size of a component as a share of all rows (beta); null: 0.96 / rounds, the "
        "paper's 12 %.",
        json_schema_extra={"origin": "code"},
    )
    expansion: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Share of the chosen rows that an iteration trains on (alpha; halves up, two "
        "rows at least).",
        json_schema_extra={"origin": "paper"},
    )
    first_sample: Literal["expansion", "half"] = Field(
        "expansion",
        description="What the first iteration trains on. `expansion`: as every other, Algorithm "
        "2. `half`: half of the rows in a run's first round and all that are left in later "
        "rounds, as in the published code.",
        json_schema_extra={"origin": "paper"},
    )
    anneal: int = Field(
        3,
        ge=1,
        le=100,
        description="The chosen set starts at this many times its final size and loses one such "
        "size with each iteration.",
        json_schema_extra={"origin": "paper"},
    )
    settle: int = Field(
        2,
        ge=0,
        le=100,
        description="Iterations after the annealing, at the final size.",
        json_schema_extra={"origin": "paper"},
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Share of the old losses in the smoothed ones (eta).",
        json_schema_extra={"origin": "paper"},
    )
    class_floor: float = Field(
        0.125,
        ge=0,
        le=1,
        description="What each class keeps of its own rows, relative to the share of all rows "
        "that is kept, so that no training falls back on a few classes.",
        json_schema_extra={"origin": "paper"},
    )
    stop_below: float = Field(
        0.04,
        ge=0,
        lt=1,
        description="A run ends when no more than this share of the rows is left; the published "
        "code stops at 2,000 of 50,000.",
        json_schema_extra={"origin": "deduced"},
    )
    warmup_epochs: int = Field(
        8,
        ge=1,
        le=10_000,
        description="Epochs of the first iteration.",
        json_schema_extra={"origin": "paper"},
    )
    epochs: int = Field(
        4,
        ge=1,
        le=10_000,
        description="Epochs of each further iteration.",
        json_schema_extra={"origin": "paper"},
    )
    reference_rows: int | None = Field(
        50_000,
        ge=1,
        description="All epochs here are for a pool of this many rows, S2's number; a smaller one "
        "is trained for as many more as keep the number of steps (halves up). Models of fewer "
        "steps fit a class or two, and so do their components. null: epochs as they stand.",
        json_schema_extra={"origin": "deduced"},
    )
    learner_epochs: int = Field(
        40,
        ge=1,
        le=10_000,
        description="Epochs of a weak learner on its component.",
        json_schema_extra={"origin": "paper"},
    )
    min_votes: int = Field(
        2,
        ge=1,
        description="Votes for its label that a row needs besides being the most frequent vote.",
        json_schema_extra={"origin": "code"},
    )
    self_training_epochs: int = Field(
        100,
        ge=0,
        le=100_000,
        description="Length of the final self-training; 0: the vote decides.",
        json_schema_extra={"origin": "paper"},
    )
    self_training_every: int = Field(
        5,
        ge=1,
        le=10_000,
        description="Epochs of self-training between two choices of its rows.",
        json_schema_extra={"origin": "paper"},
    )
    self_training_momentum: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="Share of the old value in the smoothed agreement with a label, which starts "
        "at 1/2 and must be above 1/2.",
        json_schema_extra={"origin": "paper"},
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: object) -> object:
        if isinstance(given, Mapping) and given.get("preset") == "fast":
            return {**FAST, **given}
        return given

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`; all runs, and then all weak learners, train together."""
        if len(pool) < 2:
            none = np.zeros(len(pool), np.float32)
            return Verdict(pool.ids[:0], pool.ids, none, ("too few rows: nothing was removed",))
        draws = RowDraws(pool, defender)
        runs = [self.components(pool, defender, draws, run) for run in range(self.runs)]
        found = yield from in_lockstep(runs)
        components = [component for run in found for component in run]
        length = self.scaled(self.learner_epochs, len(pool))
        learners = yield [
            Training(part(pool, rows), epochs=length, purpose=f"ispl/learner {k}")
            for k, rows in enumerate(components)
        ]
        voters = [
            predicted
            for model in learners
            if not untrained(model)
            and ((predicted := _predicted(defender, model, pool)) != NO_CLASS).any()
        ]
        if not voters:
            return unjudged(pool, "all weak learners diverged")
        votes = ballots(np.stack(voters), pool.classes)
        keep = self.elected(votes, pool.y, draws.uniform("ispl/ties"))
        cast, own = votes.sum(axis=1), np.take_along_axis(votes, pool.y[:, None], axis=1)[:, 0]
        share = np.where(cast > 0, own / np.maximum(cast, 1), 0.5)
        told = f"{len(voters)} weak learners keep {keep.sum()} of {len(pool)} rows"
        if len(voters) < len(learners):
            told = f"{len(learners) - len(voters)} of {len(learners)} diverged; {told}"
        if not keep.any():
            notes = (f"{told}: nothing was removed",)
            return Verdict(pool.ids[:0], pool.ids, (1 - share).astype(np.float32), notes)
        final, suspicion = yield from self._self_training(pool, defender, keep, 1 - share)
        notes = (f"{told}, self-training {final.sum()}",)
        return Verdict(pool.ids[~final], pool.ids, suspicion.astype(np.float32), notes)

    def elected(self, votes: Ints, labels: Ints, draws: Doubles) -> Bools:
        """Return which rows the vote keeps, bool (n,); a row without a vote stays.

        Args:
            votes: For each class, int64 (n, classes); a row has as many as learners answer it.
            labels: int64 (n,).
            draws: Decide between classes with equal votes, uniform in [0, 1), float64 (n,).
        """
        most, cast = votes.max(axis=1), votes.sum(axis=1)
        shared = (winners(votes, draws) == labels) & (most >= np.minimum(self.min_votes, cast))
        return np.asarray(shared | (cast == 0))

    def components(
        self, pool: Pool, defender: Defender, draws: RowDraws, run: int
    ) -> TrainingRequests[list[Bools]]:
        """Return the sets that one run takes out, each bool (n,), disjoint."""
        left = np.ones(len(pool), np.bool_)
        found: list[Bools] = []
        while len(found) < self.rounds and left.sum() > self.stop_below * len(pool):
            purpose = f"ispl/{run}/{len(found)}"
            component = yield from self._component(pool, defender, draws, left, purpose)
            found.append(component)
            left = left & ~component
        return found

    def _component(
        self, pool: Pool, defender: Defender, draws: RowDraws, left: Bools, purpose: str
    ) -> TrainingRequests[Bools]:
        """Return the part of `left` that generalises best to itself (Algorithm 2)."""
        rows = np.flatnonzero(left)
        sizes = self.schedule(len(pool), len(rows))
        chosen, smoothed = left, np.zeros(len(rows))
        model: Trained | None = None
        for step, share in enumerate(sizes):
            sample = self._sample(draws, chosen, f"{purpose}/{step}", first=step == 0)
            epochs = self.scaled(self.epochs if step else self.warmup_epochs, len(pool))
            asked = Training(part(pool, sample), start=model, epochs=epochs,
                             purpose=f"{purpose}/{step}")  # fmt: skip
            (model,) = yield [asked]
            if untrained(model):
                continue  # it says no more than the step before
            losses = losses_of(defender, model, pool, rows).values
            smoothed = self.momentum * smoothed + (1 - self.momentum) * losses
            chosen = np.zeros(len(pool), np.bool_)
            chosen[rows] = trimmed(smoothed, pool.y[rows], share, share * self.class_floor)
        return chosen

    def schedule(self, rows: int, left: int) -> list[float]:
        """Return the share of the rows left that each iteration chooses; () for all of them.

        Args:
            rows: Rows of the pool.
            left: Rows that no component has taken yet, at least 1.
        """
        subset = 0.96 / self.rounds if self.subset is None else self.subset
        share = min(1.0, subset * rows / left)
        if share > 0.999:
            return []
        falling = max(1, min(self.anneal, count_of(1 / share, 1, rounding="floor")))
        times = [max(1, falling - step) for step in range(falling + self.settle)]
        return [min(1.0, share * factor) for factor in times]

    def scaled(self, epochs: int, rows: int) -> int:
        """Return how many epochs a pool of `rows` rows is trained for, at least `epochs`."""
        return max(epochs, count_of((self.reference_rows or 0) / rows, epochs))

    def _sample(self, draws: RowDraws, chosen: Bools, purpose: str, *, first: bool) -> Bools:
        """Draw what an iteration trains on: two rows at least where there are two."""
        share = self.expansion
        if first and self.first_sample == "half":
            share = 0.5 if chosen.all() else 1.0
        return draws.sample(purpose, chosen, max(2, count_of(share, int(chosen.sum()))))

    def _self_training(
        self, pool: Pool, defender: Defender, keep: Bools, suspicion: Doubles
    ) -> TrainingRequests[tuple[Bools, Doubles]]:
        """Return the rows that self-training ends with, bool (n,), and all rows' suspicion."""
        agreement = np.full(len(pool), 0.5)
        model: Trained | None = None
        length = self.scaled(self.self_training_every, len(pool))
        for check in range(self.self_training_epochs // self.self_training_every - 1):
            asked = Training(part(pool, keep), start=model, epochs=length,
                             purpose=f"ispl/self-training/{check}")  # fmt: skip
            (model,) = yield [asked]
            if untrained(model):
                break
            predicted = _predicted(defender, model, pool)
            agreed = np.where(predicted == NO_CLASS, keep, predicted == pool.y)
            old = self.self_training_momentum
            agreement = old * agreement + (1 - old) * agreed
            if not (agreement > 0.5).any():
                break  # it would have nothing to go on with
            keep, suspicion = agreement > 0.5, 1 - agreement
        return keep, suspicion


def _predicted(defender: Defender, model: Trained, pool: Pool) -> Ints:
    rows = np.arange(len(pool), dtype=np.int64)
    return decided_rows(logits_of(defender, model, pool, rows))
