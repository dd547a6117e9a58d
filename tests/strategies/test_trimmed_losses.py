"""Iterative trimmed loss and TRIM against plain loops; draws and stages that they share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from learning.models.parts.modules import Classifier
from learning.pool import Block, Pool
from learning.training.job import Trained, Training
from scenarios.loader import parse
from scenarios.text.errors import ScenarioError
from strategies.base import Defender
from strategies.filtering.iterative_trimmed_loss import IterativeTrimmedLoss
from strategies.filtering.parts.lockstep import in_lockstep
from strategies.filtering.parts.losses import cross_entropies, losses_of
from strategies.filtering.parts.row_draws import RowDraws
from strategies.filtering.parts.trimming import lowest
from strategies.filtering.trim import Trim


class SoftmaxRegression(Classifier):
    """Fitted exactly, in float64: damped Newton steps on the mean loss and a small ridge."""

    def __init__(self, x, y, classes):
        pixels = int(np.prod(x.shape[1:]))
        super().__init__(nn.Flatten(), nn.Linear(pixels, classes).double())
        rows = np.c_[x.reshape(len(x), -1).astype(np.float64), np.ones(len(x))]
        weights = newton(rows, np.eye(classes)[y])
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weights[:-1].T))
            self.head.bias.copy_(torch.from_numpy(weights[-1]))

    def features(self, x):
        return super().features(x.double())


def probabilities(rows, weights):
    logits = rows @ weights
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def newton(rows, wanted, ridge=1e-3, steps=15):
    n, d = rows.shape
    k = wanted.shape[1]
    weights = np.zeros((d, k))
    for _ in range(steps):
        p = probabilities(rows, weights)
        slope = rows.T @ (p - wanted) / n + ridge * weights
        curve = np.einsum("ni,nab,nj->iajb", rows, -p[:, :, None] * p[:, None, :], rows)
        curve += np.einsum("ni,na,ab,nj->iajb", rows, p, np.eye(k), rows)
        curve = curve.reshape(d * k, d * k) / n + ridge * np.eye(d * k)
        weights -= np.linalg.solve(curve, slope.ravel()).reshape(d, k)
    assert np.abs(slope).max() < 1e-8
    return weights


def fit(job):
    module = SoftmaxRegression(job.pool.x, job.pool.y, job.pool.classes)
    return Trained(module.eval().requires_grad_(False), (), len(job.pool), job.epochs or 1, 0.0)


def plain_losses(x, y, chosen, classes):
    rows = np.c_[x.reshape(len(x), -1).astype(np.float64), np.ones(len(x))]
    weights = newton(rows[chosen], np.eye(classes)[y[chosen]])
    return -np.log(probabilities(rows, weights)[np.arange(len(y)), y])


@pytest.fixture
def mislabelled(build):
    """A pool in which every twelfth row has another label; bool (n,) says which."""
    pool = build.pool(seed=2)
    wrong = np.arange(len(pool)) % 12 == 5
    blocks = []
    for block in pool.blocks:
        y = block.y.copy()
        there = wrong[np.isin(pool.ids, block.ids)]
        y[there] = (y[there] + 1) % build.classes
        blocks.append(Block(block.owner, block.first_id, block.x, y))
    return Pool(tuple(blocks), build.classes), wrong


@pytest.mark.parametrize(("share", "rounds"), [(0.9, 1), (0.9, 4), (0.85, 3), (1.0, 2)])
def test_iterative_trimmed_loss_equals_a_plain_loop(play, mislabelled, defender, share, rounds):
    pool, _ = mislabelled
    play.train = fit
    verdict = play(IterativeTrimmedLoss(kept_share=share, rounds=rounds).inspect(pool, defender))
    chosen = list(range(len(pool)))
    for _ in range(rounds):
        losses = plain_losses(pool.x, pool.y, chosen, pool.classes)
        chosen = sorted(range(len(pool)), key=losses.tolist().__getitem__)[: round(share * 100)]
    assert (
        sorted(set(range(len(pool))) - set(chosen))
        == np.searchsorted(pool.ids, verdict.removed).tolist()
    )
    np.testing.assert_allclose(verdict.scores, losses, rtol=1e-4)


def test_it_finds_wrong_labels_when_it_is_told_how_many(play, mislabelled, defender):
    pool, wrong = mislabelled
    play.train = fit
    share = 1 - wrong.mean()
    verdict = play(IterativeTrimmedLoss(kept_share=share).inspect(pool, defender))
    assert verdict.removed.tolist() == pool.ids[wrong].tolist()
    assert [job.epochs for job in play.jobs] == [80, 40, 40, 40, 40]
    assert all(job.start is None for job in play.jobs)
    assert len({job.purpose for job in play.jobs}) == 5
    play.jobs.clear()
    play(IterativeTrimmedLoss(rounds=2, restart=False).inspect(pool, defender))
    assert [job.start is None for job in play.jobs] == [True, False]


def test_trim_equals_a_plain_loop_and_stops_where_nothing_changes(play, mislabelled, defender):
    pool, wrong = mislabelled
    play.train = fit
    count = len(pool) - int(wrong.sum())
    verdict = play(Trim(expected_poison=float(wrong.mean())).inspect(pool, defender))
    draws = RowDraws(pool, defender)
    start = draws.sample("trim/start", np.ones(len(pool), bool), count)
    sets = [sorted(np.flatnonzero(start).tolist())]
    while len(sets) < 2 or sets[-1] != sets[-2]:
        losses = plain_losses(pool.x, pool.y, sets[-1], pool.classes)
        sets.append(sorted(np.argsort(losses)[:count].tolist()))
    assert (
        sorted(set(range(len(pool))) - set(sets[-1]))
        == np.searchsorted(pool.ids, verdict.removed).tolist()
    )
    assert verdict.removed.tolist() == pool.ids[wrong].tolist()
    assert len(play.jobs) == len(sets)
    assert verdict.notes[0].startswith(f"{len(sets) - 1} turns, mean loss")


def test_trim_keeps_the_best_turn_and_says_when_it_was_cut_short(play, mislabelled, defender):
    pool, _ = mislabelled
    play.train = fit
    verdict = play(Trim(max_turns=1).inspect(pool, defender))
    assert "1 turns, still falling" in verdict.notes[0]
    assert len(verdict.removed) == 10
    assert play(Trim(expected_poison=0.0).inspect(pool, defender)).removed.tolist() == []


SCENARIO = """
name: trimmed
data: {kind: digits}
model: {kind: MODEL}
agents: [{name: ada, behaviour: {kind: benign}}]
defenders: {trimming: [{kind: trim}]}
"""


def test_trim_refuses_a_model_that_is_not_linear_when_the_scenario_is_read(play, pool, defender):
    assert parse(SCENARIO.replace("MODEL", "softmax"), "trimmed.yaml").model.linear
    with pytest.raises(ScenarioError, match=r"expected a linear model \(softmax\) for trim, got m"):
        parse(SCENARIO.replace("MODEL", "mlp"), "trimmed.yaml")

    deep = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), nn.Linear(4, 3))
    play.train = lambda job: Trained(deep, (), len(job.pool), 1, 0.0)
    with pytest.raises(ValueError, match="trim: expected a linear model"):
        play(Trim().inspect(pool, defender))


@pytest.mark.parametrize("method", [IterativeTrimmedLoss(kept_share=0.3), Trim()])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_tiny_pools_keep_a_row(play, build, defender, method, rows):
    block = build.pool().blocks[0]
    small = Pool((Block("ada", 4, block.x[:rows], block.y[:rows]),), build.classes)
    verdict = play(method.inspect(small, defender))
    assert len(verdict.removed) < max(1, rows)
    assert len(verdict.scores) == rows


def test_cross_entropies_equal_torch_and_bear_large_logits():
    draws = np.random.default_rng(0)
    logits, labels = draws.normal(0, 300, (200, 7)), draws.integers(0, 7, 200)
    expected = nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), reduction="none"
    )
    found = cross_entropies(logits, labels)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-15)  # torch rounds to 0
    assert cross_entropies(np.zeros((0, 3)), np.zeros(0, np.int64)).shape == (0,)


def test_losses_are_of_the_rows_asked_for_and_broken_ones_are_the_mean(play, build):
    pool = build.pool()
    defender = Defender(0, build.shape, build.classes, (), 1, batch_size=3)
    model = play.train(Training(pool))
    rows = np.array([77, 3, 50, *list(range(60))])
    losses = losses_of(defender, model, pool, rows)
    expected = cross_entropies(defender.logits(model, pool.x).astype(float), pool.y)
    np.testing.assert_allclose(losses.values, expected[rows], rtol=1e-6)
    assert (losses.missing, losses.none, losses.notes) == (0, False, ())

    class Broken(nn.Module):
        def __init__(self, of_three):
            super().__init__()
            self.of_three = of_three

        def forward(self, x):
            logits = torch.zeros(len(x), 3)
            logits[:, 1] = torch.arange(len(x)) + 1.0
            logits[: self.of_three] = float("nan")
            return logits

    one = losses_of(defender, Trained(Broken(1), (), 0, 1, 0.0), pool, np.arange(3))
    assert one.values[0] == pytest.approx(one.values[1:].mean())
    assert np.logaddexp(0, one.odds[0]) == pytest.approx(one.values[0])
    assert one.notes == ("1 of 3 rows have no finite loss and count as the mean of the others",)
    none = losses_of(defender, Trained(Broken(3), (), 0, 1, 0.0), pool, np.arange(3))
    assert none.none
    assert none.values.tolist() == none.odds.tolist() == [0, 0, 0]
    assert not losses_of(defender, model, pool, rows[:0]).none


def test_lowest_takes_exactly_so_many():
    losses, ties = np.array([1.0, 0.0, 1.0, 1.0, 2.0]), np.array([0.5, 0.9, 0.1, 0.3, 0.0])
    assert np.flatnonzero(lowest(losses, 3, ties)).tolist() == [1, 2, 3]
    assert lowest(losses, 0, ties).sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_draws_follow_the_rows_whatever_their_order(n, seed):
    draws = np.random.default_rng(seed)
    x = draws.integers(0, 2, (n, 1, 1, 3)).astype(np.float32)  # many rows are alike
    y = draws.integers(0, 2, n)
    order = draws.permutation(n)
    who = Defender(seed, (1, 1, 3), 2, (), 1)
    one = RowDraws(Pool((Block("a", 0, x, y),), 2), who).uniform("p")
    other = RowDraws(Pool((Block("b", 9, x[order], y[order]),), 2), who).uniform("p")
    kinds = [(*row.ravel().tolist(), label) for row, label in zip(x, y.tolist(), strict=True)]
    for kind in set(kinds):
        mine = sorted(one[[k == kind for k in kinds]])
        assert mine == sorted(other[[kinds[k] == kind for k in order]])
        assert len(set(mine)) == len(mine)


def test_draws_are_uniform_independent_and_the_defenders_own():
    x = np.arange(20_000, dtype=np.float32).reshape(-1, 1, 1, 1) / 20_000
    pool = Pool((Block("a", 0, x, np.zeros(20_000, np.int64)),), 1)
    mine = RowDraws(pool, Defender(1, (1, 1, 1), 1, (), 1))
    others = RowDraws(pool, Defender(2, (1, 1, 1), 1, (), 1))
    one = mine.uniform("one")
    assert (one == mine.uniform("one")).all()
    assert np.abs(np.sort(one) - np.arange(20_000) / 20_000).max() < 0.02  # Kolmogorov-Smirnov
    for two in (mine.uniform("two"), others.uniform("one")):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.03
    among = x.ravel() < 0.5
    drawn = mine.sample("s", among, 100)
    assert drawn.sum() == 100
    assert not drawn[~among].any()
    assert (mine.sample("s", among, 10**6) == among).all()


def test_stages_of_plays_of_different_length_are_asked_together(pool):
    def steps(name, count):
        got = []
        for k in range(count):
            got += yield [Training(pool, purpose=f"{name}{k}{j}") for j in range(2)]
        return got

    together = in_lockstep([steps("a", 2), steps("b", 0), steps("c", 1)])
    asked, stages = next(together), []
    with pytest.raises(StopIteration) as end:  # noqa: PT012 - a generator is played to its end
        while True:
            stages.append([job.purpose for job in asked])
            asked = together.send(stages[-1])
    assert stages == [["a00", "a01", "c00", "c01"], ["a10", "a11"]]
    assert end.value.value == [["a00", "a01", "a10", "a11"], [], ["c00", "c01"]]
