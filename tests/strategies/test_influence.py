"""Influence against closed forms in float64, and against retraining without a row."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from learning.curvature.last_layer import (
    LastLayer,
    factorised,
    last_layer_matrix,
    last_layer_product,
)
from learning.curvature.products import all_layers_product
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.models.parts.modules import Classifier
from learning.pool import DEFENDER
from learning.training.job import Trained
from strategies.base import Defender
from strategies.conformance.filtering import made_pool
from strategies.filtering.influence import Influence
from strategies.filtering.parts.gradients import all_layers

CPU = torch.device("cpu")
CLASSES, DAMPING = 3, 0.02


class Convex(nn.Module):
    """Softmax regression with an L2 term, trained to the minimum by Newton's method, float64."""

    def __init__(self, x, y, classes=CLASSES, damping=DAMPING):
        super().__init__()
        self.x = torch.cat([x.double().flatten(1), torch.ones(len(x), 1)], 1)
        self.y, self.classes = y, classes
        start = torch.zeros(classes * self.x.shape[1], dtype=torch.float64)
        self.theta = self.minimum(damping, start)

    def minimum(self, damping, theta):
        for _ in range(30):
            gradient = torch.func.grad(self.objective(damping))(theta)
            if float(gradient.abs().max()) < 1e-13:
                return theta
            hessian = torch.func.hessian(self.objective(damping))(theta)
            theta = theta - torch.linalg.solve(hessian, gradient)
        raise AssertionError("no minimum found")

    def objective(self, damping):
        def mean_loss(theta):
            logits = self.x @ theta.view(self.classes, -1).T
            return F.cross_entropy(logits, self.y) + damping / 2 * theta @ theta

        return mean_loss

    def features(self, x):
        return x.double().flatten(1)

    def forward(self, x):
        ones = torch.ones(len(x), 1, dtype=torch.float64)
        return torch.cat([self.features(x), ones], 1) @ self.theta.view(self.classes, -1).T


def rows(count, seed=0, d=4):
    draws = np.random.default_rng(seed)
    y = draws.integers(0, CLASSES, count)
    x = draws.normal(size=(count, d)) + np.eye(CLASSES, d)[y]
    y[:3] = (y[:3] + 1) % CLASSES  # wrong labels
    return torch.from_numpy(x), torch.from_numpy(y)


def test_hessian_and_its_products_are_autograds():
    x, y = rows(25)
    model = Convex(x, y)
    wanted = torch.autograd.functional.hessian(model.objective(0.0), model.theta)
    gradients = LastLayer.of(x.numpy(), model(x).numpy(), y.numpy(), CPU)
    torch.testing.assert_close(last_layer_matrix(gradients), wanted, rtol=1e-10, atol=1e-13)
    v = torch.randn(len(wanted), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(last_layer_product(gradients)(v), wanted @ v)
    factor = factorised(gradients, 0.5, 1.0)
    eye = torch.eye(len(wanted), dtype=torch.float64)
    torch.testing.assert_close(factor @ factor.T, wanted + 0.5 * eye)
    assert factorised(gradients, 0.5, 1e-9) is None


def deep(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh())
        return Classifier(body, nn.Linear(5, CLASSES)).to(dtype).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("batch_size", [3, 1024])
def test_products_of_all_layers_are_autograds(kind, batch_size):
    net, (x, y) = deep(), rows(10)
    images = x.float().view(-1, 1, 2, 2).numpy()
    knows = Defender(0, (1, 2, 2), CLASSES, ("a",), 1, batch_size=batch_size)
    gradients = all_layers(Trained(net, (), 10, 1, 0.0), images, y.numpy(), knows)
    names = list(dict(net.named_parameters()))
    shapes = [p.shape for p in net.parameters()]
    theta = torch.cat([p.flatten() for p in net.parameters()])

    def logits(theta):
        parts = torch.split(theta, [s.numel() for s in shapes])
        weights = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(net, weights, (torch.from_numpy(images).double(),))

    if kind == "hessian":
        wanted = torch.autograd.functional.hessian(lambda t: F.cross_entropy(logits(t), y), theta)
        assert float(torch.linalg.eigvalsh(wanted)[0]) < -1e-4  # not convex
    else:
        jacobian = torch.autograd.functional.jacobian(logits, theta)
        p = logits(theta).softmax(1)
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        wanted = torch.einsum("nap,nab,nbq->pq", jacobian, inner, jacobian) / len(y)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = all_layers_product(gradients, kind)(v)
    torch.testing.assert_close(got, wanted @ v, rtol=1e-9, atol=1e-12)


def test_conjugate_gradients_solve_tell_their_residual_and_stop_where_they_must():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    wanted = torch.tensor([3.0, 4.0], dtype=torch.float64)
    found = conjugate_gradients(lambda v: matrix @ v, 0.0, wanted, 1e-12, 10)
    torch.testing.assert_close(found.vector, torch.ones(2, dtype=torch.float64))
    assert (found.steps, found.negative) == (2, False)
    damped = conjugate_gradients(lambda v: matrix @ v, 1.0, wanted, 1e-12, 10)
    eye = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(damped.vector, torch.linalg.solve(matrix + eye, wanted))
    early = conjugate_gradients(lambda v: matrix @ v, 0.0, wanted, 1e-12, 1)
    left = torch.linalg.vector_norm(matrix @ early.vector - wanted) / 5
    assert early.residual == pytest.approx(float(left))
    assert early.residual > 1e-3
    indefinite = torch.diag(torch.tensor([1.0, -2.0], dtype=torch.float64))
    assert conjugate_gradients(lambda v: indefinite @ v, 0.0, wanted, 1e-12, 10).negative
    zero = conjugate_gradients(lambda v: matrix @ v, 0.0, 0 * wanted, 1e-12, 10)
    assert (zero.residual, zero.steps) == (0.0, 0)


class Learner:
    """Trains `Convex` models on a pool."""

    def __init__(self, damping=DAMPING):
        self.damping, self.jobs = damping, []

    def __call__(self, steps):
        (job,) = next(steps)
        self.jobs.append(job)
        x, y = torch.from_numpy(job.pool.x), torch.from_numpy(job.pool.y)
        model = Convex(x, y, damping=self.damping)
        try:
            steps.send([Trained(model, (), len(job.pool), 1, 0.0)])
        except StopIteration as end:
            return end.value
        raise AssertionError("asked twice")


@pytest.fixture
def small():
    return made_pool(rows={DEFENDER: 20, "ada": 20}, seed=2)


@pytest.mark.parametrize("others", [20, 80])
def test_it_foretells_the_loss_after_leave_one_out_retraining(others, defender):
    """On a convex problem trained to convergence: -I / n against what happens, row by row.

    The estimate is of first order in 1 / n, and so is what it is off by, relatively.
    """
    firm, small = 0.3, made_pool(rows={DEFENDER: 20, "ada": others}, seed=2)
    learner = Learner(firm)
    rule = Influence(damping=firm, remove="count", count=4)
    verdict = learner(rule.inspect(small, defender))
    train = learner.jobs[0].pool
    held = small.without_rows(train.ids)
    assert len(held) == 10
    assert {held.owners[k] for k in held.owner_index} == {DEFENDER}

    def loss_without(ids):
        left = train.without_rows(ids)
        # Without the row the sum of losses lacks a term, but the L2 term stays n times the same.
        share = len(left) / len(train)
        model = Convex(torch.from_numpy(left.x), torch.from_numpy(left.y), damping=firm / share)
        theta = model.theta
        logits = torch.cat([torch.from_numpy(held.x).double().flatten(1), torch.ones(10, 1)], 1)
        return float(F.cross_entropy(logits @ theta.view(CLASSES, -1).T, torch.from_numpy(held.y)))

    base = loss_without([])
    scores = dict(zip(verdict.scored_ids.tolist(), verdict.scores.tolist(), strict=True))
    foretold = np.array([-scores[i] / len(train) for i in train.ids.tolist()])
    happened = np.array([loss_without([i]) - base for i in train.ids.tolist()])
    assert np.corrcoef(foretold, happened)[0, 1] > 0.99
    np.testing.assert_allclose(foretold, happened, atol=4 / len(train) * np.abs(happened).max())
    assert happened.min() < 0
    assert set(verdict.removed.tolist()) == set(train.ids[np.argsort(happened)[:4]].tolist())


def closed_form(train, held, others, damping):
    """I(z) by the textbook formula, all matrices in full."""
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    model = Convex(x, y)
    hessian = torch.autograd.functional.hessian(model.objective(0.0), model.theta)
    hessian += damping * torch.eye(len(hessian), dtype=torch.float64)

    def gradient(image, label):
        row = torch.cat([image.double().flatten(), torch.ones(1, dtype=torch.float64)])
        theta = model.theta.clone().requires_grad_()
        loss = F.cross_entropy((theta.view(CLASSES, -1) @ row)[None], label[None])
        return torch.autograd.grad(loss, theta)[0]

    def each(pool):
        pairs = zip(torch.from_numpy(pool.x), torch.from_numpy(pool.y), strict=True)
        return torch.stack([gradient(*pair) for pair in pairs])

    every = each(others)
    if held is None:
        return (every * torch.linalg.solve(hessian, every.T).T).sum(1).numpy()
    return (-every @ torch.linalg.solve(hessian, each(held).mean(0))).numpy()


def test_scores_are_the_formula(small, defender):
    learner = Learner()
    verdict = learner(Influence(damping=0.3).inspect(small, defender))
    train = learner.jobs[0].pool
    wanted = closed_form(train, small.without_rows(train.ids), small, 0.3)
    np.testing.assert_allclose(verdict.scores, wanted, rtol=1e-4, atol=1e-6)
    assert verdict.notes == ()


def test_conjugate_gradients_give_what_the_factorised_hessian_gives(small, defender):
    tight = replace(defender, memory_gib=1e-6)
    rule = Influence(damping=0.3)
    one, other = (Learner()(rule.inspect(small, knows)) for knows in (defender, tight))
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    short = Learner()(Influence(damping=0.001, iterations=2).inspect(small, tight))
    assert "relative residual" in short.notes[0]
    assert bool(len(short.removed)) != ("nothing was removed" in short.notes[0])


def test_influence_on_themselves_needs_no_rows_of_the_defenders(small, defender):
    learner = Learner()
    pool = small.without_owner(DEFENDER)
    verdict = learner(Influence(judge="self", damping=0.3).inspect(pool, defender))
    assert len(learner.jobs[0].pool) == len(pool)
    np.testing.assert_allclose(verdict.scores, closed_form(pool, None, pool, 0.3), rtol=1e-4)
    with pytest.raises(ValueError, match="factorises the Hessian"):
        Learner()(Influence(judge="self").inspect(pool, replace(defender, memory_gib=1e-6)))


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
def test_all_layers_of_a_linear_model_are_its_last_layer(small, defender, curvature):
    """Through the other code: a model without a body."""
    theta = {}

    class Linear(Convex):
        pass

    def play(rule):
        steps = rule.inspect(small, defender)
        (job,) = next(steps)
        fitted = Linear(torch.from_numpy(job.pool.x), torch.from_numpy(job.pool.y))
        head = nn.Linear(16, CLASSES).double()
        weights = fitted.theta.view(CLASSES, -1)
        head.weight.data, head.bias.data = weights[:, :-1].clone(), weights[:, -1].clone()
        model = Classifier(nn.Flatten(), head).eval().requires_grad_(False)
        theta["dtype"] = head.weight.dtype
        model.features = lambda x: x.double().flatten(1)
        try:
            steps.send([Trained(model, (), len(job.pool), 1, 0.0)])
        except StopIteration as end:
            return end.value

    everything = Influence(layers="all", damping=0.3, curvature=curvature)
    last, every = play(Influence(damping=0.3)), play(everything)
    np.testing.assert_allclose(last.scores, every.scores, rtol=1e-4, atol=1e-6)
    assert last.removed.tolist() == every.removed.tolist()
    assert "relative residual" in every.notes[0]


def test_negative_curvature_is_told_and_gauss_newton_has_none(small, defender):
    def play(rule):
        steps = rule.inspect(small, defender)
        (job,) = next(steps)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            body = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh())
            net = Classifier(body, nn.Linear(6, CLASSES)).eval().requires_grad_(False)
        for weights in net.parameters():
            weights.mul_(4)  # far from any minimum
        try:
            steps.send([Trained(net, (), len(job.pool), 1, 0.0)])
        except StopIteration as end:
            return end.value

    refused = play(Influence(layers="all", damping=1e-6, curvature="hessian"))
    assert "negative eigenvalues" in refused.notes[0]
    assert refused.notes[0].endswith("nothing was removed")
    assert not len(refused.removed)
    stable = play(Influence(layers="all", damping=0.1))
    assert len(stable.removed)
    assert stable.notes[0].startswith("inverse Hessian: relative residual")
    short = play(Influence(layers="all", damping=1e-6, iterations=1))
    assert "raise iterations or damping): nothing was removed" in short.notes[0]
    assert not len(short.removed)


def perceptron(pool, steps, kind):
    """A perceptron of 103 weights after some steps, and the matrix of its mean loss, float64."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU())
        net = Classifier(body, nn.Linear(5, CLASSES)).double()
    x, y = torch.from_numpy(pool.x).double(), torch.from_numpy(pool.y)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.requires_grad_(False)
    names, weights = zip(*net.named_parameters(), strict=True)

    def logits(theta):
        parts = torch.split(theta, [w.numel() for w in weights])
        own = {n: p.view_as(w) for n, p, w in zip(names, parts, weights, strict=True)}
        return torch.func.functional_call(net, own, (x,))

    theta = torch.cat([w.flatten() for w in weights])
    if kind == "hessian":
        return net, torch.autograd.functional.hessian(
            lambda t: F.cross_entropy(logits(t), y), theta
        )
    jacobian, p = torch.autograd.functional.jacobian(logits, theta), logits(theta).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return net, torch.einsum("nap,nab,nbq->pq", jacobian, inner, jacobian) / len(y)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("steps", [0, 10, 30, 1000])
def test_a_perceptrons_influences_are_those_of_the_dense_matrix_or_nothing_is_removed(
    defender, steps, kind
):
    """In float32 against a dense solution in float64, before, during and after training.

    Where the Hessian is indefinite, conjugate gradients end with a residual of up to 9, and the
    influences are wrong by their own size: such a solution removed rows once.
    """
    pool = made_pool(rows={DEFENDER: 40, "ada": 60, "bob": 60}, seed=1)
    rule = Influence(layers="all", curvature=kind, damping=0.01)
    play = rule.inspect(pool, defender)
    (job,) = next(play)
    net, matrix = perceptron(job.pool, steps, kind)
    with pytest.raises(StopIteration) as end:
        play.send([Trained(copy.deepcopy(net).float(), (), len(job.pool), 1, 0.0)])
    verdict = end.value.value
    if float(torch.linalg.eigvalsh(matrix)[0]) < -0.01:
        assert kind == "hessian"
        assert not len(verdict.removed)
        assert "the Hessian has negative eigenvalues" in verdict.notes[0]
        return
    assert kind == "gauss_newton" or steps >= 30
    held = np.isin(pool.ids, job.pool.ids, invert=True)
    gradients = all_layers(Trained(net, (), 1, 1, 0.0), pool.x, pool.y, defender)
    wanted = gradients.take(np.flatnonzero(held))
    mean = wanted.transposed(torch.full((int(held.sum()),), 1 / held.sum(), dtype=torch.float64))
    eye = torch.eye(len(matrix), dtype=torch.float64)
    dense = -gradients.times(torch.linalg.solve(matrix + 0.01 * eye, mean)).numpy()
    np.testing.assert_allclose(verdict.scores, dense, rtol=1e-2, atol=2e-3 * np.abs(dense).max())
    assert 0 < len(verdict.removed) <= 5  # 3 % of 160
    assert dense[np.isin(pool.ids, verdict.removed)].min() > 0


def test_only_harm_is_removed_and_never_a_row_that_judges(small, defender):
    learner = Learner()
    verdict = learner(Influence(share=1.0).inspect(small, defender))
    scores = dict(zip(verdict.scored_ids.tolist(), verdict.scores.tolist(), strict=True))
    assert all(scores[i] > 0 for i in verdict.removed.tolist())
    held = small.without_rows(learner.jobs[0].pool.ids).ids
    assert not set(held) & set(verdict.removed)
    assert any(scores[i] <= 0 for i in small.ids.tolist())


def test_without_rows_to_judge_by_it_says_what_to_do(small, defender):
    for pool in (
        small.without_owner(DEFENDER),
        small.without_rows(small.block(DEFENDER).ids),
        small.only_owners([DEFENDER]).without_rows(small.block(DEFENDER).ids[1:]),
    ):
        with pytest.raises(ValueError, match="set defender_share above 0, or judge: self"):
            next(Influence().inspect(pool, defender))


def test_fields_that_would_not_be_read_are_refused():
    with pytest.raises(ValidationError, match="held_out is read with judge: validation"):
        Influence(judge="self", held_out=0.2)
    with pytest.raises(ValidationError, match="curvature is read with layers: all"):
        Influence(curvature="hessian")
    with pytest.raises(ValidationError, match="set layers: last"):
        Influence(judge="self", layers="all")
    with pytest.raises(ValidationError, match="share is read with remove: share"):
        Influence(remove="count", share=0.2)
