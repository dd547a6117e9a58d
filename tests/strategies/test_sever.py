"""Sever against the paper's own formula in float64, by a full singular value decomposition."""

import numpy as np
import pytest
import torch

from learning.curvature.last_layer import LastLayer
from learning.curvature.per_row import Stored
from learning.curvature.streamed import Streamed
from learning.pool import Pool
from learning.training.job import Trained
from strategies.filtering.sever import Sever, gradient_scores

CPU = torch.device("cpu")


def softmax_regression(n=60, d=4, classes=3, seed=0):
    """Rows and logits of a linear model."""
    draws = np.random.default_rng(seed)
    x = draws.normal(size=(n, d)) + 1
    y = draws.integers(0, classes, n)
    return x, x @ draws.normal(size=(d, classes)), y


def closed_form(x, logits, y):
    """Gradients of softmax regression by weights and bias, one row after the other, float64."""
    out = []
    for row, scores, label in zip(x, logits, y, strict=True):
        p = np.exp(scores - scores.max())
        error = p / p.sum()
        error[label] -= 1
        out.append(np.outer(error, np.append(row, 1)).ravel())
    return np.stack(out)


def by_svd(gradients):
    centred = gradients - gradients.mean(0)
    top = np.linalg.svd(centred, full_matrices=False)[2][0]
    return (centred @ top) ** 2


def start(width, seed=0):
    return torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_singular_value_decomposition(seed):
    x, logits, y = softmax_regression(seed=seed)
    gradients = closed_form(x, logits, y)
    wanted = by_svd(gradients)
    last = LastLayer.of(x, logits, y, CPU)
    for form in (last, Stored(torch.from_numpy(gradients))):
        found, residual = gradient_scores(form, start(form.width, seed), 60)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9 * wanted.max())
        assert residual < 1e-8


def test_outlying_gradients_score_highest_and_uncentred_directions_would_miss_them():
    """All gradients share a large mean; the few that differ vary most around it."""
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(200, 10)) * 0.1
    rows[:, 0] += 50
    rows[:12, 1] += 2
    scores, _ = gradient_scores(Stored(torch.from_numpy(rows)), start(10), 60)
    assert set(np.argsort(-scores)[:12]) == set(range(12))
    top = np.linalg.svd(rows, full_matrices=False)[2][0]
    assert set(np.argsort(-((rows @ top) ** 2))[:12]) != set(range(12))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_alike_and_few_rows_have_no_direction(rows):
    alike = Stored(torch.full((rows, 6), 0.1, dtype=torch.float64))
    scores, residual = gradient_scores(alike, start(6), 10)
    assert scores.tolist() == [0.0] * rows
    assert residual == 0


def test_an_unfinished_direction_is_told(play, pool, defender):
    verdict = play(Sever(iterations=1, rounds=2).inspect(pool, defender))
    assert [note.split(":")[0] for note in verdict.notes] == ["round 1", "round 2"]
    assert play(Sever(rounds=2).inspect(pool, defender)).notes == ()


def naive_sever(pool, defender, play, share, rounds, per):
    """The paper's loop, with positions of a plain array."""
    ids, removed = pool.ids, []
    for _ in range(rounds):
        job = type("Job", (), {"pool": pool.without_rows(removed), "start": None, "epochs": None})
        model = play.train(job)
        left = job.pool
        z, logits = defender.features(model, left.x), defender.logits(model, left.x)
        gradients = closed_form(z.astype(float), logits.astype(float), left.y)
        groups = [left.y == k for k in range(left.classes)] if per == "class" else [left.y >= 0]
        for own in groups:
            order = np.argsort(-by_svd(gradients[own]), kind="stable")
            removed += left.ids[own][order[: round(share * own.sum())]].tolist()
    assert set(removed) <= set(ids)
    return sorted(removed)


@pytest.mark.parametrize("per", ["overall", "class"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_filter_is_the_papers_loop(play, pool, defender, per, rounds):
    verdict = play(Sever(share=0.06, rounds=rounds, per=per).inspect(pool, defender))
    assert verdict.removed.tolist() == naive_sever(pool, defender, play, 0.06, rounds, per)
    assert len(play.jobs[0].pool) == len(pool)
    assert len(play.jobs) == rounds
    kept = ~np.isin(verdict.scored_ids, verdict.removed)
    if per == "overall":
        assert verdict.scores[~kept].min() >= 1 - 1e-6
        assert verdict.scores[kept].max() <= 1


def test_all_layers_kept_or_streamed_agree(pool, defender, monkeypatch):
    from dataclasses import replace

    from strategies.conformance.filtering import ExactLearner

    learner, asked = ExactLearner(defender.shape, pool.classes), []

    def run(defender):
        steps = Sever(layers="all", rounds=2, share=0.05).inspect(pool, defender)
        jobs = next(steps)
        try:
            while True:
                jobs = steps.send([learner.train(job) for job in jobs])
        except StopIteration as end:
            return end.value

    kept = run(defender)
    plain = Streamed.transposed
    monkeypatch.setattr(Streamed, "transposed", lambda s, u: asked.append(1) or plain(s, u))
    streamed = run(replace(defender, memory_gib=1e-5))
    assert asked
    assert kept.removed.tolist() == streamed.removed.tolist()
    np.testing.assert_allclose(kept.scores, streamed.scores, rtol=2e-3, atol=1e-4)


def test_no_class_is_emptied(play, pool, defender):
    verdict = play(Sever(share=1.0).inspect(pool, defender))
    left = pool.without_rows(verdict.removed)
    assert np.bincount(left.y, minlength=pool.classes).min() >= 1


def test_a_diverged_model_removes_nothing(pool, defender, play):
    def train(job):
        model = play.__class__().train(job)
        model.module.head[0, 0] = float("nan")
        return Trained(model.module, (), len(job.pool), 1, 0.0)

    play.train = train
    verdict = play(Sever().inspect(pool, defender))
    assert len(verdict.removed) == 0
    assert "diverged" in verdict.notes[0]


def test_an_empty_share_changes_nothing(play, pool, defender):
    verdict = play(Sever(share=0.0, rounds=1).inspect(pool, defender))
    assert len(verdict.removed) == 0
    assert verdict.scores.max() == 1
    one = Pool((pool.blocks[0],), pool.classes)
    assert len(play(Sever(share=0.0).inspect(one, defender)).scores) == len(one)
