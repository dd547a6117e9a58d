"""A model that computes nonsense is right about nothing and leads to no target.

The case ``nan-logits``: a dead model counted as class 0, so that an attacker with target 0 had an
ASR of 100 %. A network of NaN, or with one infinite logit, must be a miss in every score that
counts answers, and the result must say so; a sound model must be told nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from learning.answers import NO_CLASS, decided, decided_rows
from learning.attacks.fgsm import FGSM
from learning.attacks.pgd import PGD
from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from scenarios.schema import RefereeSpec
from server.referee.referee import Referee
from server.referee.results import AgentRecord
from server.referee.scoring.predict import LogMeanSoftmax, predicted
from server.referee.scoring.rows import ScoredRows
from server.referee.scoring.scores import share
from server.referee.sealed import RunTimeSet, Sealed, Truth
from strategies.base import NOBODY, Predictor
from strategies.filtering.activation_clustering import exclusionary_ratio
from strategies.filtering.parts.trimming import ballots
from strategies.pipeline import Outcome

CPU = torch.device("cpu")
K, SHAPE = 4, (1, 2, 2)


class First(nn.Module):
    """The class in the first pixel (class / 10); `spoilt` in the logits of bright last pixels."""

    def __init__(self, spoilt=None, at=slice(None), everywhere=False):
        super().__init__()
        self.spoilt, self.at, self.everywhere = spoilt, at, everywhere

    def forward(self, x):
        label = (x[:, 0, 0, 0] * 10).round().long().clamp(0, K - 1)
        logits = nn.functional.one_hot(label, K) * 5.0 + 0 * x.sum((1, 2, 3))[:, None]
        if self.spoilt is None:
            return logits
        bad = x[:, 0, 1, 1] > 0.5
        spoilt = logits.clone()
        spoilt[:, self.at] = self.spoilt
        return torch.where(bad[:, None] | self.everywhere, spoilt, logits)


def images(labels, bright=False):
    x = np.zeros((len(labels), *SHAPE), np.float32)
    x[:, 0, 0, 0] = np.asarray(labels) / 10
    x[:, 0, 1, 1] = bright
    return x


INFINITE = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", INFINITE)
@pytest.mark.parametrize("at", [slice(None), slice(0, 1), slice(2, 3)])
def test_an_answer_with_a_number_that_is_none_is_no_class(value, at):
    labels = [0, 1, 2, 3]
    rows = ScoredRows([images(labels), images(labels, bright=True)])
    for size in (1, 3, 8):
        answers = predicted(First(value, at), rows, np.arange(8), CPU, size)
        assert answers.tolist() == [*labels, *[NO_CLASS] * 4]
    assert predicted(First(), rows, np.arange(8), CPU, 3).tolist() == labels * 2


@pytest.mark.parametrize("value", INFINITE)
def test_one_dead_member_leaves_a_mean_softmax_without_an_answer(value):
    both = LogMeanSoftmax([First(), First(value, slice(1, 2))])
    rows = ScoredRows([images([0, 3]), images([0, 3], bright=True)])
    assert predicted(both, rows, np.arange(4), CPU, 4).tolist() == [0, 3, NO_CLASS, NO_CLASS]


def test_ties_and_extreme_but_finite_logits_are_answers():
    big = torch.finfo(torch.float32).max
    logits = torch.tensor([[1.0, 1.0, 0.0], [-big, big, 0.0], [-big, -big, -big]])
    assert decided(logits).tolist() == decided_rows(logits.numpy()).tolist() == [0, 1, 0]


def played(module, *, world=None, guesser=None, adversarial=(), free=None):
    """Return the scores of two attackers (targets 0 and 3, the last class) on one model."""
    y = np.arange(8) % K
    roster = [
        AgentRecord(name=name, group="g", behaviour="backdoor", malicious=True, rows=2,
                    poisoned_rows=1, target=target, source=source, admitted=True)
        for name, target, source in (("zero", 0, 1), ("last", K - 1, 0))
    ]  # fmt: skip
    run_time = {
        agent.name: RunTimeSet(
            agent.name, images(y), y, images(y, bright=True), np.full(8, agent.target),
            agent.target, agent.source, images(y, bright=True),
        )
        for agent in roster
    }  # fmt: skip
    pool = Pool((Block(DEFENDER, 0, images([0, 1]), np.array([0, 1])),), K)
    truth = {agent.name: Truth(np.zeros(0, bool), images([]), np.zeros(0, int)) for agent in roster}
    sealed = Sealed(run_time, truth, images(y), y)
    spec = RefereeSpec(adversarial=adversarial)
    referee = Referee(sealed, roster, spec, 0)
    worlds = {"attacked": module, "attacker_free": free or module, "alone/zero": world or module}
    outcomes = {
        name: Outcome(Predictor((Trained(one, (), 1, 1, 0.0, None),), guesser=guesser), (), pool)
        for name, one in worlds.items()
    }
    return referee.score((), outcomes), referee.glance(outcomes["attacked"])


def test_a_dead_model_misses_every_label_and_every_target():
    dead = First(float("nan"), everywhere=True)
    ours, glance = played(dead, adversarial=(FGSM(), PGD(steps=2)))
    nothing = share(0, 8)
    assert ours.clean_accuracy == ours.clean_accuracy_attacker_free == nothing
    assert set(ours.adversarial_accuracy.values()) == {nothing}
    for own in ours.agents.values():
        assert own.run_time_accuracy == own.asr_all == own.robust_accuracy_all == nothing
        assert own.asr == own.asr_untrained == own.asr_part == own.robust_accuracy == share(0, 6)
        assert own.asr_source == share(0, 2)
    assert ours.agents["zero"].asr_alone == share(0, 6)
    assert ours.agents["zero"].interference.value == 0
    # Class -1 must not be counted as the last class.
    assert ours.cross_asr.matrix == ((0, 0), (0, 0))
    assert ours.malicious.asr.pooled == share(0, 12)
    assert (glance.clean_accuracy, glance.asr["zero"]) == (nothing, share(0, 6))


def test_a_model_that_is_dead_where_it_is_triggered_gives_no_attacker_a_hit():
    ours, glance = played(First(float("inf"), slice(0, 1)))
    assert ours.clean_accuracy.value == ours.agents["zero"].run_time_accuracy.value == 1
    assert ours.agents["zero"].asr_all.value == ours.agents["last"].asr_all.value == 0
    # Inputs are counted although nothing was answered.
    assert ours.agents["zero"].asr == share(0, 6)
    assert ours.notes[0].startswith("In the attacked game 32 of 56 answers are not numbers")
    assert glance.note == "some answers of the model are not numbers: misses"


def test_the_notes_say_in_which_games_and_are_silent_of_a_sound_model():
    sound, dead = First(), First(float("nan"), everywhere=True)
    assert played(sound)[0].notes == ()
    assert played(sound)[1].note == ""
    assert [note[:29] for note in played(sound, free=dead)[0].notes] == [
        "In the game without attackers"
    ]
    (alone,) = played(sound, world=dead)[0].notes
    assert alone.startswith("Where attackers play alone 8 of 8 answers")
    assert len(played(dead)[0].notes) == 3
    assert played(dead)[1].note == "all answers of the model are not numbers: misses"


class Nobody:
    """A guesser that can tell nothing."""

    def guess(self, x):
        return [NOBODY] * len(x)


def test_a_guess_of_nobody_is_a_miss_and_asks_the_shared_model():
    ours, _ = played(First(), guesser=Nobody())
    assert ours.guess_accuracy == share(0, 16)
    assert ours.clean_accuracy.value == 1


def test_an_answer_that_is_none_has_no_vote_and_is_no_prediction():
    votes = ballots(np.array([[0, NO_CLASS], [2, NO_CLASS], [2, 1]]), 3)
    assert votes.tolist() == [[1, 0, 2], [0, 1, 0]]
    assert exclusionary_ratio(np.array([0, 0, 1, NO_CLASS, NO_CLASS]), 0, 3) == 2
    assert exclusionary_ratio(np.array([0, NO_CLASS]), 0, 3) == float("inf")


def test_the_dead_models_record_can_be_written_and_read():
    ours, _ = played(First(float("nan"), everywhere=True))
    assert type(ours).model_validate_json(ours.model_dump_json()) == ours
