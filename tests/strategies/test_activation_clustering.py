import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import adjusted_rand_score

from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from strategies.filtering.activation_clustering import ActivationClustering, exclusionary_ratio
from strategies.filtering.parts.principal import centre, project
from strategies.filtering.parts.two_means import smaller_of_two


def two_blobs(seed=0):
    """500 standard normal rows and 50 tighter ones, six away along the first axis."""
    draws = np.random.default_rng(seed)
    clean, poison = draws.normal(0, 1, (500, 64)), 0.5 * draws.normal(0, 1, (50, 64))
    poison[:, 0] += 6
    return np.concatenate([clean, poison]) + 3


def cluster(features, labels, defender, **fields):
    return ActivationClustering(**fields).clusters(features, labels, defender)


def one_class(build, seed=0):
    return build.defender(seed=seed).__class__(seed, build.shape, 1, (), 10)


@pytest.mark.parametrize("reduce", ["pca", "none"])
def test_exactly_the_poison_is_found_from_ten_random_starts(build, reduce):
    features, labels = two_blobs(), np.zeros(550, np.int64)
    truth = np.arange(550) >= 500
    for seed in range(10):
        (found,), notes = cluster(features, labels, one_class(build, seed), reduce=reduce)
        mine = np.isin(np.arange(550), found.rows)
        assert adjusted_rand_score(truth, mine) == 1
        assert found.share == pytest.approx(50 / 550)
        assert found.agreement == 1
        assert notes == ()


def test_whitened_components_are_unstable_and_the_verdict_says_so(build):
    (found,), notes = cluster(
        two_blobs(), np.zeros(550, np.int64), one_class(build), reduce="ica", n_init=1
    )
    assert found.agreement < 0.9
    assert "class 0: unstable clustering, adjusted Rand index" in notes[0]


def test_independent_components_find_separate_sources(build):
    # Without noise directions to be blown up by whitening, the papers' recipe works too.
    features = two_blobs()[:, :2]
    (found,), _ = cluster(
        features, np.zeros(550, np.int64), one_class(build), reduce="ica", n_init=50
    )
    assert adjusted_rand_score(np.arange(550) >= 500, np.isin(np.arange(550), found.rows)) > 0.9


def test_principal_projections_equal_scikit_learns():
    from sklearn.decomposition import PCA

    draws = np.random.default_rng(0)
    for shape in ((40, 12), (9, 30)):
        rows = draws.normal(size=shape) @ np.diag(np.linspace(1, 3, shape[1]))
        ours = project(centre(rows), 5)
        want = PCA(5, svd_solver="full").fit_transform(rows)
        np.testing.assert_allclose(np.abs(ours), np.abs(want), rtol=1e-6, atol=1e-9)
    flat = np.outer(draws.normal(size=20), draws.normal(size=6))  # rank one
    assert project(centre(flat), 5).shape == (20, 1)
    assert project(centre(np.full((7, 3), 0.1)), 2).shape == (7, 0)


@pytest.mark.parametrize("reduce", ["pca", "ica", "none"])
def test_odd_classes_are_skipped_with_a_note_and_nothing_crashes(build, reduce):
    draws = np.random.default_rng(3)
    few, alike = draws.normal(size=(4, 64)), np.full((30, 64), 0.1)
    rank_one = np.outer(draws.normal(size=25), draws.normal(size=64))
    features = np.concatenate([few[:1], few[:2], few, alike, rank_one]).astype(np.float32)
    labels = np.repeat([0, 1, 2, 4, 5], [1, 2, 4, 30, 25])  # class 3 is empty
    defender = one_class(build).__class__(0, build.shape, 6, (), 10)
    found, notes = cluster(features, labels, defender, reduce=reduce, stability_runs=0)
    assert [c.label for c in found] == [2, 5]
    assert [note.split(":")[0] for note in notes] == ["class 0", "class 1", "class 3", "class 4"]
    assert all(0 < c.share <= 0.5 for c in found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([0, 1, 9], [2]),
        ([0, 8, 9], [0]),
        ([0, 1, 8, 9], [2, 3]),
        ([9, 8, 1, 0], [0, 1]),
    ],
    ids=["high", "low", "a tie", "a tie in another order"],
)
def test_the_smaller_of_two_clusters_is_taken_and_of_a_tie_the_one_further_along(
    points, wanted, seed
):
    found = smaller_of_two(np.array(points, np.float64)[:, None], 1, seed)
    assert np.flatnonzero(found).tolist() == wanted


def pool_of(features, labels, classes):
    """A pool whose inputs are the features, one pixel each."""
    x = features.astype(np.float32)[:, None, None, :]
    return Pool((Block(DEFENDER, 0, x, labels.astype(np.int64)),), classes)


class Pixels(torch.nn.Module):
    """Features are the pixels; logits are given by a function of them."""

    def __init__(self, logits=None):
        super().__init__()
        self._logits = logits

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self._logits(x.flatten(1))


def judge(method, pool, defender, second=None):
    """Drive the generator with `Pixels`, and `second` as the model without the clusters."""
    steps = method.inspect(pool, defender)
    jobs = [next(steps)]
    send = Trained(Pixels(), (), len(pool), 1, 0.0)
    try:
        while True:
            jobs.append(steps.send([send]))
            send = Trained(Pixels(second), (), len(pool), 1, 0.0)
    except StopIteration as end:
        return end.value, jobs


def two_classes():
    """Class 0 holds poison of class 1's look; class 1 is one blob."""
    draws = np.random.default_rng(5)
    poisoned = two_blobs()
    clean = draws.normal(size=(300, 64)) + 3
    clean[:, 0] += 6
    return np.concatenate([poisoned, clean]), np.repeat([0, 1], [550, 300])


@pytest.mark.parametrize("decision", ["size", "silhouette"])
def test_size_and_silhouette_take_the_poison_and_leave_the_clean_class(build, decision):
    features, labels = two_classes()
    defender = one_class(build).__class__(0, (1, 1, 64), 2, (), 10)
    method = ActivationClustering(decision=decision)
    verdict, jobs = judge(method, pool_of(features, labels, 2), defender)
    assert verdict.removed.tolist() == list(range(500, 550))
    assert len(jobs) == 1
    assert verdict.scores[500] == pytest.approx(1 - 50 / 550)


def test_exclusionary_reclassification_keeps_a_small_but_honest_cluster(build):
    features, labels = two_classes()
    defender = one_class(build).__class__(0, (1, 1, 64), 2, (), 10)
    pool = pool_of(features, labels, 2)

    def by_first_pixel(x):  # what a model of the clean rows would learn
        return torch.stack([6 - x[:, 0], x[:, 0] - 6], 1)

    verdict, jobs = judge(ActivationClustering(), pool, defender, by_first_pixel)
    assert verdict.removed.tolist() == list(range(500, 550))
    suspects = set(pool.ids) - set(jobs[1][0].pool.ids)
    assert set(range(500, 550)) < suspects  # the smaller cluster of class 1 was left out too

    def always_zero(x):
        return torch.stack([torch.ones(len(x)), torch.zeros(len(x))], 1)

    verdict, _ = judge(ActivationClustering(), pool, defender, always_zero)
    assert not set(range(500, 550)) & set(verdict.removed)


@pytest.mark.parametrize(
    ("predicted", "ratio"),
    [([2, 2, 2, 2], np.inf), ([0, 0, 0, 2], 1 / 3), ([0, 1, 2, 2], 2), ([0, 0, 1], 0)],
)
def test_exclusionary_ratio_by_hand(predicted, ratio):
    assert exclusionary_ratio(np.asarray(predicted), 2, 4) == pytest.approx(ratio)


def test_partition_agrees_with_arts(build):
    art = pytest.importorskip("art.defences.detector.poison.activation_defence")
    features = two_blobs(7)
    (theirs,), _ = art.cluster_activations([features], nb_dims=10, reduce="PCA")
    (found,), _ = cluster(features, np.zeros(550, np.int64), one_class(build))
    assert adjusted_rand_score(theirs, np.isin(np.arange(550), found.rows)) > 0.98


def test_fields_that_would_not_be_read_are_refused():
    with pytest.raises(ValidationError, match="size_threshold is read with decision: size only"):
        ActivationClustering(size_threshold=0.2)


@pytest.mark.parametrize("decision", ["size", "silhouette", "exclusionary"])
def test_whole_filter_survives_classes_that_are_empty_or_smaller_than_the_dimensions(
    build, decision
):
    """Where ART's clustering of the same activations raises; the class with poison is still judged.

    Class 1 has no rows, class 2 one, class 3 four rows of 64 activations (10 dimensions).
    """
    draws = np.random.default_rng(3)
    features = np.concatenate([two_blobs(), draws.normal(size=(5, 64)) + 3])
    labels = np.repeat([0, 2, 3], [550, 1, 4])
    defender = one_class(build).__class__(0, (1, 1, 64), 4, (), 10)

    def by_first_pixel(x):  # the poison looks like class 3
        high = torch.where(x[:, 0] > 6, 9.0, -9.0)
        return torch.stack([-high, 0 * high - 99, 0 * high - 99, high], 1)

    method = ActivationClustering(decision=decision, stability_runs=0)
    verdict, _ = judge(method, pool_of(features, labels, 4), defender, by_first_pixel)
    assert set(range(500, 550)) <= set(verdict.removed.tolist())
    assert not set(range(500)) & set(verdict.removed.tolist())
    skipped = [note for note in verdict.notes if "skipped" in note]
    assert [note.split(":")[0] for note in skipped] == ["class 1", "class 2"]

    art = pytest.importorskip("art.defences.detector.poison.activation_defence")
    for rows in (0, 1, 4):
        with pytest.raises((IndexError, ValueError)):
            art.cluster_activations([features[:rows]], nb_dims=10, reduce="PCA")
