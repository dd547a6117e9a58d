"""Inverse self-paced learning against hand-made arrays, a plain loop and known mixtures."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from learning.data.digits import Digits
from learning.models.mlp import MLP
from learning.pool import Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained
from learning.training.spec import ComputeSpec, TrainingSpec
from strategies.base import Defender
from strategies.filtering.inverse_self_paced import FAST, InverseSelfPaced
from strategies.filtering.parts.row_draws import RowDraws
from strategies.filtering.parts.trimming import ballots, trimmed, winners

CLASSES = 3
DEFENDER = Defender(seed=0, shape=(1, 3, 3), classes=CLASSES, agents=("ada",), epochs=10)


class Linear(nn.Module):
    """Ridge regression on the pixels, in closed form: an exact and forgetful learner."""

    def __init__(self, x, y):
        super().__init__()
        rows = self.rows(torch.from_numpy(x))
        gram = rows.T @ rows + 0.1 * torch.eye(rows.shape[1]).double()
        wanted = torch.eye(CLASSES).double()[torch.from_numpy(y)]
        self.head = torch.linalg.solve(gram, rows.T @ wanted)

    def rows(self, x):
        flat = x.double().flatten(1)
        return torch.cat([flat, torch.ones(len(flat), 1).double()], 1)

    def forward(self, x):
        return 5 * (self.rows(x) @ self.head)


def fit(job):
    return Trained(Linear(job.pool.x, job.pool.y), (), len(job.pool), job.epochs, 0.0)


def mixture(seed, *, compatible=False, each=200, noise=20):
    """Three classes of bright pixels, and rows with a trigger.

    These show class 0 and are labelled 1, as no clean row is; or (compatible) they show what they
    are labelled, so that whoever knows the clean rows knows them.
    """
    draws = np.random.default_rng(seed)
    extra = np.arange(noise) % 3 if compatible else np.zeros(noise, np.int64)
    shown = np.concatenate([np.repeat([0, 1, 2], each), extra])
    x = draws.random((len(shown), 1, 3, 3), dtype=np.float32) * 0.3
    x[np.arange(len(shown)), 0, 0, shown] += 0.6
    x[3 * each :, 0, 2, 2] = 1
    y = np.concatenate([shown[: 3 * each], extra if compatible else np.ones(noise, np.int64)])
    order = draws.permutation(len(y))
    pool = Pool((Block("ada", 10, x[order], y[order]),), CLASSES)
    return pool, order >= 3 * each


def test_trimming_keeps_the_lowest_of_all_and_the_lowest_of_each_class():
    losses = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 9.0, 8.0, 7.0, 6.0, 9.9, 5.0])
    labels = np.array([0] * 8 + [1] * 4 + [4] * 2)
    # All: 0.25 of 13 gaps ends in the fourth, so the four lowest. Each class: its lowest row.
    keep = trimmed(losses, labels, 0.25, 0.25 / 8)
    assert np.flatnonzero(keep).tolist() == [0, 1, 2, 3, 11, 13]
    # Class 1: a third of its three gaps is reached exactly by its second lowest row.
    keep = trimmed(losses, labels, 0.0, 1 / 3)
    assert np.flatnonzero(keep).tolist() == [0, 1, 2, 10, 11, 13]
    assert trimmed(losses, labels, 5.0, 0.0).all()  # a share above all is all
    assert trimmed(np.ones(6), np.zeros(6, np.int64), 0.1, 0.0).all()  # ties stay together
    assert trimmed(np.zeros(0), np.zeros(0, np.int64), 0.5, 0.1).shape == (0,)


def test_most_votes_win_and_draws_break_ties():
    votes = np.array([[0, 1, 2, 2], [0, 1, 1, 0], [0, 2, 2, 1], [1, 2, 1, 2]])
    counts = ballots(votes, 3)
    assert counts.tolist() == [[3, 1, 0], [0, 2, 2], [0, 2, 2], [1, 1, 2]]
    assert winners(counts, np.array([0.99, 0.49, 0.5, 0.0])).tolist() == [0, 1, 2, 2]
    three = np.full((1000, 3), 4)
    drawn = winners(three, np.linspace(0, 1, 1000, endpoint=False))
    assert np.bincount(drawn).tolist() == [334, 333, 333]


def test_votes_equal_a_plain_count():
    draws = np.random.default_rng(4)
    votes, ties = draws.integers(0, 5, (24, 300)), draws.random(300)
    found = winners(ballots(votes, 5), ties)
    for column, winner, tie in zip(votes.T.tolist(), found, ties, strict=True):
        counts = Counter(column)
        best = sorted(c for c, times in counts.items() if times == max(counts.values()))
        assert winner == best[int(tie * len(best))]


def test_a_row_needs_two_votes_for_its_label():
    votes = np.array([[1, 1, 1], [2, 1, 0], [0, 3, 0], [3, 0, 0]])
    labels, draws = np.array([1, 0, 1, 1]), np.full(4, 0.5)
    for needed, kept in ((1, [1, 1, 1, 0]), (2, [0, 1, 1, 0]), (3, [0, 0, 1, 0])):
        keep = InverseSelfPaced(min_votes=needed).elected(votes, labels, draws)
        assert keep.astype(int).tolist() == kept


def test_sizes_fall_as_in_the_paper():
    ispl = InverseSelfPaced()
    np.testing.assert_allclose(ispl.schedule(100, 100), np.array([3, 2, 1, 1, 1]) * 0.12)
    np.testing.assert_allclose(ispl.schedule(100, 28), np.array([2, 1, 1, 1]) * 12 / 28)
    np.testing.assert_allclose(ispl.schedule(100, 16), np.array([1, 1, 1]) * 0.75)
    assert ispl.schedule(100, 12) == []  # what is left is the component
    np.testing.assert_allclose(InverseSelfPaced(rounds=1).schedule(50, 50), [0.96] * 3)
    np.testing.assert_allclose(InverseSelfPaced(subset=0.25).schedule(50, 50)[0], 0.75)


def plain_components(x, y, *, rounds, momentum, floor):
    """Algorithm 2 with alpha = 1, as a loop over rows; quantiles by sorting."""

    def quantile(values, share):
        ranked, at = sorted(values), min(share, 1) * (len(values) - 1)
        low = int(at)
        high = min(low + 1, len(values) - 1)
        return ranked[low] + (at - low) * (ranked[high] - ranked[low])

    left, found = list(range(len(y))), []
    for _ in range(rounds):
        if len(left) <= 0.04 * len(y):
            break
        share = min(1, 0.96 / rounds * len(y) / len(left))
        steps = 2 + max(1, min(3, int(1 / share))) if share < 0.999 else 0
        chosen, smooth = list(left), dict.fromkeys(left, 0.0)
        for step in range(steps):
            size = min(3, max(1, steps - 2 - step)) * share
            logits = Linear(x[chosen], y[chosen])(torch.from_numpy(x[left]))
            logits = logits.float()  # what a defender is given
            loss = nn.functional.cross_entropy(
                logits.double(), torch.from_numpy(y[left]), reduction="none"
            )
            for row, value in zip(left, loss.tolist(), strict=True):
                smooth[row] = momentum * smooth[row] + (1 - momentum) * value
            level = quantile([smooth[r] for r in left], size)
            levels = {
                c: quantile([smooth[r] for r in left if y[r] == c], size * floor)
                for c in set(y[left].tolist())
            }
            chosen = [r for r in left if smooth[r] <= max(level, levels[int(y[r])])]
        found.append(sorted(chosen))
        left = [r for r in left if r not in chosen]
    return found


@pytest.mark.parametrize(("rounds", "momentum", "floor"), [(8, 0.9, 0.125), (3, 0.0, 1.0)])
def test_components_equal_a_plain_loop(play, rounds, momentum, floor):
    pool, _ = mixture(5, each=40, noise=8)
    play.train = fit
    ispl = InverseSelfPaced(rounds=rounds, momentum=momentum, class_floor=floor, expansion=1.0)
    found = play(ispl.components(pool, DEFENDER, RowDraws(pool, DEFENDER), 0))
    expected = plain_components(pool.x, pool.y, rounds=rounds, momentum=momentum, floor=floor)
    assert [np.flatnonzero(rows).tolist() for rows in found] == expected


def test_what_is_asked_for(play):
    """Runs side by side, each step a quarter of what the one before chose, then all learners."""
    pool, _ = mixture(1)
    play.train = fit
    stages = []

    def watched(steps):
        asked = next(steps)
        try:
            while True:
                stages.append(asked)
                asked = steps.send([fit(job) for job in asked])
        except StopIteration as end:
            return end.value

    watched(InverseSelfPaced(reference_rows=None).inspect(pool, DEFENDER))
    first, second = stages[:2]
    assert [len(job.pool) for job in first] == [155] * 3  # alpha of 620 rows
    assert all(job.start is None and job.epochs == 8 for job in first)
    assert len({tuple(job.pool.ids) for job in first}) == 3
    assert all(job.start is not None and job.epochs == 4 for job in second)
    # A quarter of 3 x 12 % of the rows, and of the few more that the floor of a class adds.
    assert all(round(0.25 * 0.36 * 620) <= len(job.pool) <= 60 for job in second)
    sizes = Counter(len(stage) for stage in stages)
    assert sizes[24] == 1  # the weak learners
    learners = next(stage for stage in stages if len(stage) == 24)
    assert all(job.start is None and job.epochs == 40 for job in learners)
    for run in range(3):
        ids = np.concatenate([job.pool.ids for job in learners[8 * run : 8 * run + 8]])
        assert len(set(ids)) == len(ids) >= 0.95 * len(pool)
    assert sizes[1] == 19  # self-training: 100 epochs by 5; after the last choice none is played
    assert all(job.epochs == 5 for stage in stages[-19:] for job in stage)
    purposes = [job.purpose for stage in stages for job in stage]
    assert len(set(purposes)) == len(purposes)


def test_small_pools_are_trained_for_as_many_steps_as_the_papers(play):
    pool, _ = mixture(1)
    play.train = fit
    ispl = InverseSelfPaced(reference_rows=6200)
    play(ispl.inspect(pool, DEFENDER))
    assert {job.epochs for job in play.jobs} == {80, 40, 400, 50}
    assert [ispl.scaled(4, rows) for rows in (6200, 6201, 10**6, 3100, 5)] == [4, 4, 4, 8, 4960]


def expansion_error(x, y, others, draws, *, alpha=0.25, times=12):
    """S2's epsilon(S | T; alpha): mean loss on S of models fitted to a sample of S, and T."""
    losses = []
    for _ in range(times):
        sample = draws.integers(0, len(y), max(1, round(alpha * len(y))))
        fitted = Linear(
            np.concatenate([x[sample], others[0]]), np.concatenate([y[sample], others[1]])
        )
        logits = fitted(torch.from_numpy(x))
        losses.append(float(nn.functional.cross_entropy(logits, torch.from_numpy(y))))
    return float(np.mean(losses))


def incompatible(pool, bad, seed, pairs=20):
    """In what share of drawn pairs the one set harms the other: all, by Property 4.4."""
    draws = np.random.default_rng(seed)
    harmed = 0
    for _ in range(pairs):
        clean = draws.choice(np.flatnonzero(~bad), draws.integers(100, 600), replace=False)
        noise = draws.choice(np.flatnonzero(bad), draws.integers(12, 21), replace=False)
        for own, other in ((clean, noise), (noise, clean)):
            x, y = pool.x[own], pool.y[own]
            there = (pool.x[other], pool.y[other])
            none = (pool.x[:0], pool.y[:0])
            key = int(draws.integers(2**32))
            alone = expansion_error(x, y, none, np.random.default_rng(key))
            harmed += expansion_error(x, y, there, np.random.default_rng(key)) > alone
    return harmed / (2 * pairs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fields", [{}, {"self_training_epochs": 0}, {"first_sample": "half"}])
def test_where_property_4_4_holds_exactly_the_noise_goes(play, seed, fields):
    pool, bad = mixture(seed)
    if not fields:
        assert incompatible(pool, bad, seed) == 1
    play.train = fit
    verdict = play(InverseSelfPaced(**fields).inspect(pool, DEFENDER))
    assert verdict.removed.tolist() == pool.ids[bad].tolist()
    assert verdict.scores[bad].min() > verdict.scores[~bad].max()
    assert "24 weak learners keep 600 of 620 rows" in verdict.notes[0]


@pytest.mark.parametrize("seed", range(3))
def test_where_property_4_4_fails_the_noise_stays(play, seed):
    """As with S2's cats among dogs: a clean model already gives the noise its label."""
    pool, bad = mixture(seed, compatible=True)
    assert incompatible(pool, bad, seed) <= 0.6
    play.train = fit
    verdict = play(InverseSelfPaced().inspect(pool, DEFENDER))
    assert not set(verdict.removed) & set(pool.ids[bad])


def test_self_training_recovers_a_clean_row_that_the_vote_lost(play):
    pool, bad = mixture(2)
    lost = np.flatnonzero(~bad)[:30]
    keep = ~bad
    keep[lost] = False
    play.train = fit
    ispl = InverseSelfPaced()
    final, suspicion = play(ispl._self_training(pool, DEFENDER, keep, np.zeros(len(bad))))
    assert (final == ~bad).all()
    # Always predicted, never predicted: 1/2 of what 19 checks at momentum 0.8 leave of the start.
    np.testing.assert_allclose(suspicion[bad], 1 - 0.5 * 0.8**19)
    np.testing.assert_allclose(suspicion[~bad], 0.5 * 0.8**19, atol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5])
def test_tiny_pools_of_one_class(play, build, defender, rows):
    block = build.pool().blocks[0]
    small = Block("ada", 7, block.x[:rows], np.full(rows, 1, np.int64))
    verdict = play(InverseSelfPaced().inspect(Pool((small,), 3), defender))
    assert verdict.removed.tolist() == []
    assert len(verdict.scores) == rows


def test_missing_classes_and_learners_that_never_agree(play, build, defender):
    pool = build.pool()
    two = pool.without_rows(pool.ids[pool.y == 1])
    verdict = play(InverseSelfPaced().inspect(two, defender))
    assert len(verdict.removed) < len(two) / 2

    class Wrong(nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 9.0, 0.0]]).expand(len(x), 3)

    play.train = lambda job: Trained(Wrong(), (), len(job.pool), 1, 0.0)
    verdict = play(InverseSelfPaced().inspect(two, defender))
    assert len(verdict.removed) == 0
    assert "nothing was removed" in verdict.notes[0]


def test_models_that_diverged_do_not_break_it(play, pool, defender):
    class Broken(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 3), float("nan"))

    play.train = lambda job: Trained(Broken(), (), len(job.pool), 1, 0.0)
    verdict = play(InverseSelfPaced().inspect(pool, defender))
    assert np.isfinite(verdict.scores).all()
    assert set(verdict.removed) <= set(pool.ids)


def test_presets_fill_what_is_not_given():
    fast = InverseSelfPaced(preset="fast", epochs=3)
    assert (fast.epochs, fast.learner_epochs) == (3, FAST["learner_epochs"])
    assert {name for name, field in type(fast).model_fields.items()
            if getattr(fast, name) != field.default} == {"preset", *FAST}  # fmt: skip
    assert InverseSelfPaced.model_validate(fast.model_dump()) == fast
    assert InverseSelfPaced().learner_epochs == 40


@pytest.mark.parametrize("together", [True, False])
def test_on_real_digits_and_models_it_is_the_same_each_time(play, together):
    data = Digits().load()
    x, y = data.x_train[:240], data.y_train[:240]
    pool = Pool((Block("ada", 0, x, y),), 10)
    spec = TrainingSpec(batch_size=32)
    defender = Defender(seed=1, shape=data.shape, classes=10, agents=("ada",), epochs=1)
    ispl = InverseSelfPaced(
        preset="fast", rounds=3, runs=2, self_training_epochs=6, reference_rows=480
    )
    answers = []
    for _ in range(2):
        engine = Engine(
            Recipe(MLP(hidden=(8,)), data.shape, 10, spec, ComputeSpec(together=together), 3)
        )
        play.train = lambda job, engine=engine: engine.train([job])[0]
        answers.append(play(ispl.inspect(pool, defender)))
    one, two = answers
    assert one.removed.tolist() == two.removed.tolist()
    assert one.scores.tobytes() == two.scores.tobytes()
