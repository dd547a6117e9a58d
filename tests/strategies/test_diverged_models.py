"""A model that has learned nothing, or answers no numbers, decides about no row."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning.method import discover
from learning.pool import DEFENDER
from learning.training.job import Training
from strategies.base import Defender, Filter
from strategies.conformance.filtering import ExactLearner, made_pool
from strategies.filtering.activation_clustering import ActivationClustering
from strategies.filtering.inverse_self_paced import InverseSelfPaced
from strategies.filtering.iterative_trimmed_loss import IterativeTrimmedLoss
from strategies.filtering.loss_defence import LossDefence
from strategies.filtering.trim import Trim

SHIPPED = discover(Filter, "strategies.filtering")
POOL = made_pool()
KNOWS = Defender(11, (1, 4, 4), 3, ("ada", "bob", "cyd", "dan"), 4)


def played(rule, pool=POOL, spoil=lambda number, job: False, width=24, how="untrained"):
    """Play a filter; `spoil` says which of its trainings diverge, from 0."""
    learner, number = ExactLearner((1, 4, 4), 3, width), 0
    steps = rule.inspect(pool, KNOWS)
    try:
        asked = next(steps)
        while True:
            sent = []
            for job in asked:
                model = learner.train(job)
                if spoil(number, job):
                    if how == "nan":
                        for weights in model.module.parameters():
                            weights.fill_(torch.nan)
                    else:  # as the engine hands back what diverged in its first epoch
                        model = replace(model, epochs=0, curve=())
                sent.append(model)
                number += 1
            asked = steps.send(sent)
    except StopIteration as end:
        return end.value, number


@pytest.mark.parametrize("how", ["untrained", "nan"])
@pytest.mark.parametrize("kind", sorted(SHIPPED))
def test_where_all_trainings_diverge_nothing_is_removed_and_it_is_said(kind, how):
    rule = SHIPPED[kind](**({"space": "features"} if kind == "nearest_labels" else {}))
    width = 0 if kind == "trim" else 24
    sound, asked = played(rule, width=width)
    assert asked
    verdict, _ = played(rule, spoil=lambda number, job: True, width=width, how=how)
    assert not len(verdict.removed)
    assert "nothing was removed" in verdict.notes[0]
    assert np.isfinite(verdict.scores).all()
    assert not any("diverged" in note for note in sound.notes)  # silent where all is well


def test_the_exclusionary_test_needs_its_own_model():
    """NaN was class 0: clusters of all classes but 0 were poison."""
    rule = ActivationClustering(n_init=2, stability_runs=0)
    for how in ("untrained", "nan"):
        verdict, asked = played(rule, spoil=lambda number, job: number == 1, how=how)
        assert asked == 2
        assert not len(verdict.removed)


@pytest.mark.parametrize("how", ["untrained", "nan"])
def test_a_weak_learner_that_diverged_has_no_vote(how):
    """Of 6 learners half answer NaN: the vote is that of the others, and the report says so."""
    fields = {"rounds": 2, "runs": 3, "self_training_epochs": 0, "reference_rows": None}
    rule, learners = InverseSelfPaced(**fields), 6

    def half(number, job):
        return job.purpose.startswith("ispl/learner") and int(job.purpose.split()[-1]) % 2 == 0

    verdict, _ = played(rule, spoil=half, how=how)
    assert verdict.notes[0].startswith(f"3 of {learners} diverged; 3 weak learners keep")
    plain, _ = played(rule)
    assert plain.notes[0].startswith(f"{learners} weak learners keep")
    odd, _ = played(rule, spoil=half, how="nan")
    assert odd.removed.tolist() == verdict.removed.tolist()
    np.testing.assert_array_equal(odd.scores, verdict.scores)


@pytest.mark.parametrize("how", ["untrained", "nan"])
def test_a_step_whose_training_diverged_does_not_end_the_search(how):
    rule, asked = InverseSelfPaced(rounds=2, runs=1, self_training_epochs=0), []

    def second(number, job):
        asked.append(job.purpose)
        return job.purpose == "ispl/0/0/1"

    played(rule, spoil=second, how=how)
    steps = [purpose for purpose in asked if purpose.startswith("ispl/0/0/")]
    assert steps == [f"ispl/0/0/{at}" for at in range(len(rule.schedule(len(POOL), len(POOL))))]
    assert len(steps) > 2


def test_a_row_without_a_vote_stays():
    votes = np.array([[0, 0, 0], [1, 0, 2], [0, 3, 0]])
    kept = InverseSelfPaced().elected(votes, np.array([0, 0, 1]), np.zeros(3))
    assert kept.tolist() == [True, False, True]


def test_trim_takes_the_best_fit_there_is_but_never_its_random_start():
    rule = Trim(expected_poison=0.2)
    first, _ = played(rule, spoil=lambda number, job: number >= 1, width=0)
    assert not len(first.removed)
    second, asked = played(rule, spoil=lambda number, job: number >= 2, width=0)
    assert asked == 3
    assert len(second.removed) == 18  # of 88


class Overflowing(torch.nn.Module):
    """Logits of rows with a dark first pixel are infinite."""

    def forward(self, x):
        dark = x[:, 0, 0, 0] < 0.05
        logits = torch.stack([x[:, 0, k, k] for k in range(3)], 1)
        return torch.where(dark[:, None], torch.inf, logits)


@pytest.mark.parametrize("rule", [LossDefence(share=0.1), IterativeTrimmedLoss(kept_share=0.9)])
def test_single_rows_without_a_loss_count_as_average_and_are_told(rule):
    steps = rule.inspect(POOL, KNOWS)
    dark = POOL.x[:, 0, 0, 0] < 0.05
    assert 0 < dark.sum() < 20
    try:
        asked = next(steps)
        while True:
            sound = ExactLearner((1, 4, 4), 3).train(Training(POOL))
            asked = steps.send([replace(sound, module=Overflowing()) for _ in asked])
    except StopIteration as end:
        verdict = end.value
    assert verdict.notes == (
        f"{dark.sum()} of 88 rows have no finite loss and count as the mean of the others",
    )
    assert len(verdict.removed) == 9
    assert not set(verdict.removed) & set(POOL.ids[dark])
    assert DEFENDER in POOL.owners
