import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.pool import Pool
from strategies.filtering.spectral_signatures import SpectralSignatures, spectral_scores


def relu_case():
    """500 clean rows with a strong common feature, 50 poisoned ones without it."""
    draws = np.random.default_rng(0)
    clean, poison = (np.abs(draws.normal(0, 0.5, (n, 64))) for n in (500, 50))
    clean[:, 0] += 6
    return np.concatenate([clean, poison])


def test_relu_features_all_poison_found_where_uncentred_scores_find_none():
    features = relu_case()
    found = np.argsort(-spectral_scores(features, np.zeros(550, np.int64)))[:50]
    assert (found >= 500).sum() == 50

    top = np.linalg.svd(features - features.mean(0), full_matrices=False)[2][0]
    uncentred = np.argsort(-((features @ top) ** 2))
    assert (uncentred[:50] >= 500).sum() == 0
    assert (uncentred[:75] >= 500).sum() == 0


def arts_scores(features):
    art = pytest.importorskip("art.defences.detector.poison")
    return np.ravel(art.SpectralSignatureDefense.spectral_signature_scores(features))


def test_equals_art_on_centred_features_squared():
    raw = relu_case()
    ours = spectral_scores(raw, np.zeros(len(raw), np.int64))
    np.testing.assert_allclose(arts_scores(raw - raw.mean(0)) ** 2, ours, rtol=1e-9)


def test_must_not_agree_with_art_on_raw_features():
    """Where the two differ, and why ours is the paper's.

    ART takes the direction from centred features and the score from uncentred ones. So its score
    of a row changes by a constant along that direction when all rows are moved alike, which the
    paper's does not; and rows that lack a feature which their class shares score lowest.
    """
    raw, labels = relu_case(), np.zeros(550, np.int64)
    ours, theirs = spectral_scores(raw, labels), arts_scores(raw)
    assert not np.allclose(theirs**2, ours)
    assert (np.argsort(-ours)[:50] >= 500).sum() == 50
    assert (np.argsort(-theirs)[:50] >= 500).sum() == 0
    assert (np.argsort(theirs)[:50] >= 500).sum() == 50
    moved = raw + np.arange(64.0)
    np.testing.assert_allclose(spectral_scores(moved, labels), ours, rtol=1e-9, atol=1e-12)
    assert not np.allclose(arts_scores(moved), theirs)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_equals_full_svd_on_either_side_of_the_gram_matrix(n, d, seed, scale):
    draws = np.random.default_rng(seed)
    features = scale * (draws.normal(size=(n, d)) * draws.gamma(1, size=d) + draws.normal(size=d))
    centred = features - features.mean(0)
    _, values, vt = np.linalg.svd(centred, full_matrices=False)
    scores = spectral_scores(features, np.zeros(n, np.int64))
    if len(values) > 1 and values[1] > 0.99 * values[0]:
        return  # the direction is not defined
    np.testing.assert_allclose(
        scores, (centred @ vt[0]) ** 2, rtol=1e-6, atol=1e-8 * values[0] ** 2
    )


def test_classes_are_scored_apart_and_degenerate_ones_get_zero():
    draws = np.random.default_rng(1)
    wide, alike, pair = draws.normal(size=(20, 5)), np.full((9, 5), 0.1), draws.normal(size=(2, 5))
    labels = np.repeat([4, 0, 2], [20, 9, 2])
    scores = spectral_scores(np.concatenate([wide, alike, pair]), labels)
    np.testing.assert_allclose(scores[:20], spectral_scores(wide, labels[:20]))
    assert (scores[:20] > 0).all()
    assert (scores[20:] == 0).all()


def test_float32_features_are_scored_in_float64():
    features = relu_case().astype(np.float32) + np.float32(1000)
    labels = np.zeros(len(features), np.int64)
    exact = spectral_scores(features.astype(np.float64), labels)
    np.testing.assert_array_equal(spectral_scores(features, labels), exact)
    assert (np.argsort(-exact)[:50] >= 500).all()


def test_rate_removes_the_top_share_of_each_class(play, pool, defender):
    verdict = play(SpectralSignatures(expected_poison=0.2).inspect(pool, defender))
    np.testing.assert_array_equal(verdict.scored_ids, pool.ids)
    for label in range(pool.classes):
        rows = pool.y == label
        scores, ids = verdict.scores[rows], pool.ids[rows]
        want = ids[np.argsort(-scores)[: round(1.5 * 0.2 * rows.sum())]]
        assert set(want) == set(ids) & set(verdict.removed)
    assert (np.diff(verdict.removed) > 0).all()
    assert len(play.jobs) == 1
    assert play.jobs[0].pool is pool


def test_count_overall_and_per_class(play, pool, defender):
    overall = play(SpectralSignatures(remove="count", count=7).inspect(pool, defender))
    top = pool.ids[np.argsort(-overall.scores)[:7]]
    assert set(overall.removed) == set(top)
    each = play(SpectralSignatures(remove="count", count=2, per="class").inspect(pool, defender))
    labels = dict(zip(pool.ids, pool.y, strict=True))
    assert sorted(labels[i] for i in each.removed) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "remove", [{"multiplier": 100.0, "expected_poison": 1.0}, {"remove": "count", "count": 10_000}]
)
def test_no_class_is_emptied(play, pool, defender, remove):
    verdict = play(SpectralSignatures(**remove).inspect(pool, defender))
    left = pool.without_rows(verdict.removed)
    assert np.bincount(left.y, minlength=pool.classes).tolist() == [1, 1, 1]


def test_alike_rows_and_missing_classes_remove_nothing(play, build, defender):
    block = build.pool().blocks[0]
    alike = type(block)(block.owner, 0, np.full_like(block.x, 0.25), np.zeros_like(block.y))
    verdict = play(SpectralSignatures().inspect(Pool((alike,), build.classes), defender))
    assert len(verdict.removed) == 0


def test_diverged_training_is_reported_and_removes_nothing(play, pool, defender):
    steps = SpectralSignatures().inspect(pool, defender)
    model = play.train(next(steps)[0])
    model.module.first[0, 0] = float("nan")
    with pytest.raises(StopIteration) as end:
        steps.send([model])
    assert len(end.value.value.removed) == 0
    assert "diverged" in end.value.value.notes[0]


def test_a_field_that_would_not_be_read_is_refused():
    with pytest.raises(ValidationError, match="count is read with remove: count only"):
        SpectralSignatures(count=6)
    with pytest.raises(ValidationError, match="multiplier is read with remove: rate only"):
        SpectralSignatures(remove="count", multiplier=2.0)
    assert SpectralSignatures(remove="count", count=6, per="class").count == 6
