"""Loss defence, k-NN sanitisation and STRIP, each against a plain oracle."""

from dataclasses import replace
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from strategies.filtering.loss_defence import LossDefence
from strategies.filtering.nearest_labels import NearestLabels, neighbour_labels
from strategies.filtering.parts.ranked import highest
from strategies.filtering.strip import Strip, boundary, entropies_of, mean_entropies


class Told(torch.nn.Module):
    """Gives the label 0 a loss that the first pixel of a row says."""

    def forward(self, x):
        chance = torch.exp(-x[:, 0, 0, 0].double())
        return torch.stack([chance, 1 - chance], 1).clamp(min=1e-30).log()


def told_pool(losses, owner="ada", first_id=100):
    x = np.zeros((len(losses), 1, 4, 4), np.float32)
    x[:, 0, 0, 0] = losses
    return Pool((Block(owner, first_id, x, np.zeros(len(losses), np.int64)),), 2)


def judged(rule, pool, defender, module):
    steps = rule.inspect(pool, defender)
    try:
        asked = next(steps)
        assert [job.pool for job in asked] == [pool]
        steps.send([Trained(module, (), len(pool), 1, 0.0)])
    except StopIteration as end:
        return end.value
    raise AssertionError("asked twice")


def test_the_largest_losses_go(defender):
    losses = [0.1, 0.7, 0.2, 0.9, 0.3, 0.8]
    pool = told_pool(losses)
    verdict = judged(LossDefence(remove="count", count=2), pool, defender, Told())
    assert verdict.removed.tolist() == [103, 105]
    np.testing.assert_allclose(verdict.scores, losses, rtol=1e-5)
    assert verdict.scored_ids.tolist() == list(range(100, 106))
    third = judged(LossDefence(share=0.5), pool, defender, Told())
    assert third.removed.tolist() == [101, 103, 105]
    assert len(judged(LossDefence(), pool, defender, Told()).removed) == 0  # 3 % of 6 rows


def test_by_default_three_of_a_hundred_go_as_in_s3(defender):
    losses = np.random.default_rng(0).permutation(np.linspace(0.01, 0.99, 100))
    verdict = judged(LossDefence(), told_pool(losses), defender, Told())
    assert set(verdict.removed - 100) == set(np.argsort(-losses)[:3])


def naive_highest(scores, labels, amount, per, eligible):
    out = set()
    groups = [labels == k for k in set(labels.tolist())] if per == "class" else [labels == labels]
    lowest = {int(k): scores[labels == k].min() for k in set(labels.tolist())}
    for own in groups:
        count = amount if isinstance(amount, int) else floor(amount * int(own.sum()) + 0.5)
        rows = [
            i for i in np.flatnonzero(own).tolist()
            if eligible[i] and scores[i] > lowest[int(labels[i])]
        ]  # fmt: skip
        out |= set(sorted(rows, key=lambda i: -scores[i])[:count])
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from(["class", "overall"]),
    st.one_of(st.integers(0, 40), st.floats(0, 1)),
)  # fmt: skip
def test_removal_by_rank_is_the_plain_one_and_empties_no_class(seed, n, per, amount):
    draws = np.random.default_rng(seed)
    scores, labels = draws.permutation(n).astype(float), draws.integers(0, 3, n)
    eligible = draws.random(n) < 0.8
    got = highest(scores, labels, amount, per, draws.random(n), eligible)
    assert set(np.flatnonzero(got)) == naive_highest(scores, labels, amount, per, eligible)
    assert set(labels[~got]) == set(labels)


def test_ties_go_by_what_rows_hold_and_equal_rows_are_no_suspects():
    labels, ties = np.zeros(4, np.int64), np.array([0.1, 0.4, 0.3, 0.2])
    scores = np.array([1.0, 1.0, 1.0, 0.0])
    assert np.flatnonzero(highest(scores, labels, 2, "overall", ties)).tolist() == [1, 2]
    assert not highest(np.ones(4), labels, 4, "overall", ties).any()


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
@pytest.mark.parametrize("memory_gib", [4.0, 1e-6])
def test_neighbours_are_those_of_scikit_learn(defender, k, memory_gib):
    neighbors = pytest.importorskip("sklearn.neighbors")
    draws = np.random.default_rng(k)
    points = (draws.normal(size=(70, 5)) + 30).astype(np.float32)
    labels = draws.integers(0, 4, 70)
    knows = replace(defender, memory_gib=memory_gib)
    got = neighbour_labels(points, labels, 4, k, knows)
    most = min(k, 69)
    tree = neighbors.NearestNeighbors(n_neighbors=most).fit(points.astype(np.float64))
    near = tree.kneighbors(return_distance=False)  # without the row itself
    wanted = np.stack([np.bincount(labels[row], minlength=4) for row in near])
    np.testing.assert_array_equal(got, wanted)


def test_where_the_device_knows_no_float64_neighbours_are_sought_on_the_cpu(defender):
    points = np.array([[0.0], [1.0], [3.0]], np.float32)
    knows = replace(defender, device=torch.device("mps"))
    got = neighbour_labels(points, np.array([0, 1, 2]), 3, 1, knows)
    assert got.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]


def test_rows_as_far_as_the_last_neighbour_count_too(defender):
    points = np.array([[0.0], [1.0], [-1.0], [1.0], [5.0]], np.float32)
    got = neighbour_labels(points, np.array([0, 1, 2, 2, 1]), 3, 1, defender)
    assert got[0].tolist() == [0, 1, 2]  # all three at distance 1
    assert got[1].tolist() == [0, 0, 1]  # its twin at distance 0


def flipped_pool(seed=0):
    """Three clouds far apart; five rows carry a label that is not their cloud's."""
    draws = np.random.default_rng(seed)
    cloud = draws.integers(0, 3, 60)
    x = (draws.random((60, 1, 2, 2)) * 0.1 + 0.3 * cloud[:, None, None, None]).astype(np.float32)
    y = cloud.copy()
    y[:5] = (y[:5] + 1) % 3
    order = draws.permutation(60)
    return Pool((Block("ada", 7, x[order], y[order]),), 3), 7 + np.flatnonzero(order < 5)


@pytest.mark.parametrize("k", [7, 10])
def test_flipped_labels_are_found(play, defender, k):
    pool, flipped = flipped_pool()
    verdict = play(NearestLabels(k=k, eta=0.6).inspect(pool, defender))
    assert set(verdict.removed) == set(flipped)
    assert play.jobs == []
    found = set(play(NearestLabels(k=k, space="features").inspect(pool, defender)).removed)
    assert found == set(flipped)
    assert len(play.jobs) == 1


def test_eta_and_the_own_label_decide(play, defender):
    """Of four neighbours two carry the other label: outvoted with eta 0.5 only if none is ours."""
    points = np.array([0.5, 0.51, 0.49, 0.52, 0.48], np.float32).reshape(5, 1, 1, 1)
    pool = Pool((Block("ada", 0, points, np.array([0, 1, 1, 2, 2])),), 3)
    gone = play(NearestLabels(k=4, eta=0.5).inspect(pool, defender)).removed
    assert 0 in gone
    strict = play(NearestLabels(k=4, eta=0.51).inspect(pool, defender))
    assert 0 not in strict.removed
    assert strict.scores[0] == 0.5
    even = Pool((Block("ada", 0, points, np.array([0, 1, 1, 0, 0])),), 3)
    assert 0 not in play(NearestLabels(k=4, eta=0.5).inspect(even, defender)).removed


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        draws = torch.Generator().manual_seed(5)
        self.weights = 3 * torch.randn(16, 3, generator=draws, dtype=torch.float64)

    def forward(self, x):
        return (x.double().flatten(1) @ self.weights).float()


@pytest.mark.parametrize("blend", ["sum", "mean"])
@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_entropies_are_those_of_a_loop(defender, blend, batch_size):
    draws = np.random.default_rng(0)
    x = draws.random((9, 1, 4, 4), dtype=np.float32)
    overlays = draws.random((5, 1, 4, 4), dtype=np.float32)
    model = Trained(Linear(), (), 9, 1, 0.0)
    knows = replace(defender, batch_size=batch_size)
    got = mean_entropies(model, x, overlays, blend, knows)
    for row, entropy in zip(x, got, strict=True):
        several = []
        for overlay in overlays:
            both = np.clip(row + overlay, 0, 1) if blend == "sum" else (row + overlay) / 2
            p = torch.softmax(Linear()(torch.from_numpy(both)[None])[0].double(), 0).numpy()
            several.append(-(p * np.log2(p)).sum())
        assert entropy == pytest.approx(np.mean(several), rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_row_is_superimposed_with_itself_where_there_are_others(defender, count):
    x = np.random.default_rng(0).random((9, 1, 4, 4), dtype=np.float32)
    at = np.array([2, 3, 5, 6, 8][:count])
    itself = np.full(9, -1)
    itself[at] = np.arange(count)
    model = Trained(Linear(), (), 9, 1, 0.0)
    knows = replace(defender, batch_size=3 * count)
    got = mean_entropies(model, x, x[at], "sum", knows, itself)
    for row in range(9):
        others = [k for k in at if k != row] or [row]  # a single image has no other
        wanted = mean_entropies(model, x[[row]], x[others], "sum", knows)
        assert got[row] == pytest.approx(wanted[0], rel=1e-6)


def test_entropy_of_sure_and_unsure_predictions():
    logits = np.array([[1e4, 0, 0, 0], [0, 0, 0, 0], [5, 5, -1e4, -1e4]], np.float32)
    np.testing.assert_allclose(entropies_of(logits), [0, 2, 1], atol=1e-12)


def test_the_boundary_is_a_quantile_of_the_fitted_normal():
    values = np.random.default_rng(0).normal(2, 0.3, 200_000)
    assert boundary(values, 0.01) == pytest.approx(norm.ppf(0.01, 2, 0.3), abs=0.01)
    assert boundary(np.full(4, 2.0), 0.01) == -np.inf


def test_the_normal_is_fitted_by_maximum_likelihood_as_in_the_authors_code():
    """Standard deviation over n, not n - 1: of two values half their distance (mutant M10)."""
    assert boundary(np.array([1.0, 3.0]), 0.01) == pytest.approx(2 + norm.ppf(0.01), rel=1e-12)
    values = np.random.default_rng(3).normal(2, 0.3, 7)
    assert boundary(values, 0.05) == pytest.approx(norm.ppf(0.05, *norm.fit(values)), rel=1e-12)


class Triggered(torch.nn.Module):
    """Sure of class 0 where the corner is full, whatever lies on top; else by the other pixels."""

    def forward(self, x):
        trigger = (x[:, 0, 0, 0] >= 1)[:, None]
        sure = torch.tensor([50.0, 0, 0]).expand(len(x), 3)
        return torch.where(trigger, sure, 2 * x.flatten(1)[:, 1:4])


def test_rows_with_a_trigger_are_removed(build, defender):
    clean = build.pool()
    blocks = []
    for block in clean.blocks:
        x = block.x * 0.9
        if block.owner == "ada":
            x[:, 0, 0, 0] = 1
        blocks.append(Block(block.owner, block.first_id, x, block.y))
    pool = Pool(tuple(blocks), clean.classes)
    verdict = judged(Strip(images=20), pool, defender, Triggered())
    assert set(pool.block("ada").ids) <= set(verdict.removed)
    others = set(verdict.removed) - set(pool.block("ada").ids)
    assert len(others) <= 0.05 * len(pool)
    assert verdict.notes == ()


def test_the_filter_scores_each_row_by_its_partners(defender, build):
    """The score is minus the mean entropy with the defender's other images, all of them here."""
    pool = build.pool(rows={DEFENDER: 6, "ada": 4})
    verdict = judged(Strip(), pool, defender, Linear())
    model, own = Trained(Linear(), (), 10, 1, 0.0), pool.block(DEFENDER).x
    for row in range(10):
        partners = np.delete(own, row, axis=0) if row < 6 else own
        wanted = mean_entropies(model, pool.x[[row]], partners, "sum", defender)
        assert -verdict.scores[row] == pytest.approx(wanted[0], rel=1e-5)


def test_without_rows_of_the_defenders_it_says_where_the_boundary_is_from(defender, build):
    pool = build.pool().without_owner(DEFENDER)
    verdict = judged(Strip(images=5), pool, defender, Triggered())
    assert verdict.notes == ("the defender has no rows: the boundary is that of all rows",)
