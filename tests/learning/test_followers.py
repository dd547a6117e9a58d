"""Followers, total gradients, influence and reachability against exact values in float64."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from learning.curvature.losses import cross_entropy, squared_error
from learning.curvature.objective import RowObjective
from learning.curvature.reachability import lambert_bound, longest_row, reachability
from learning.curvature.row_gradient import loss_gradient, row_gradient
from learning.curvature.softmax import head_of, own_layer
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.solvers.kronecker import Kronecker
from learning.curvature.solvers.minres import minres
from learning.curvature.stationary import stationary
from learning.curvature.vectors import load, vector_of
from learning.data.digits import Digits
from learning.models.mlp import MLP
from learning.models.parts.modules import Classifier
from learning.models.softmax import Softmax
from learning.training.device import threads


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, wanted, to=1e-10):
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=0, atol=to)


def linear(inputs, outputs):
    """A linear model without a bias, on rows of one dimension."""
    return nn.Linear(inputs, outputs, bias=False).double().eval().requires_grad_(False)


def regression(inputs, outputs):
    """The same as one of the house's, which goes by closed forms."""
    return Classifier(nn.Sequential(nn.Flatten()), linear(inputs, outputs)).eval()


def joined(x, y, more_x, more_y):
    return torch.cat([x, more_x]), torch.cat([y, more_y])


def follower(module, x, y, loss, start=None, tolerance=1e-13):
    objective = RowObjective(module, x, y, ridge=0.1, loss=loss)
    start = torch.zeros_like(vector_of(module)) if start is None else start
    found = stationary(objective, start, tolerance=tolerance)
    assert found.reached
    return objective, found.insisted()


def total(objective, weights, judges, row):
    """The total gradient of the judges' loss by one row of a follower that has converged."""
    wanted = judges.gradient(weights)
    solved = conjugate_gradients(objective.product(weights), 0.0, wanted, 1e-15, 50)
    assert solved.residual < 1e-12
    return -objective.crossed(weights, solved.vector, slice(row, row + 1))


# Least squares with a ridge.
LS_X, LS_Y = tensor((1, 0), (0, 1), (1, 1)), tensor(1, 2, 2)[:, None]
LS_POISON, LS_LABEL = tensor((0.5, -1)), tensor((-1,))
LS_JUDGES = tensor((1, 2), (2, 1)), tensor(4, 4)[:, None]


def least_squares(poison=None):
    module = linear(2, 1)
    judges = RowObjective(module, *LS_JUDGES, loss=squared_error)
    x, y = (LS_X, LS_Y) if poison is None else joined(LS_X, LS_Y, poison, LS_LABEL)
    return (*follower(module, x, y, squared_error), judges)


def test_ridge_least_squares():
    _, clean, judges = least_squares()
    close(clean, (0.6759906760, 1.4452214452))
    close(judges.value(clean), 0.4086752408)
    objective, poisoned, judges = least_squares(LS_POISON)
    close(poisoned, (0.6849315068, 1.3698630137))
    close(judges.value(poisoned), 0.4798273597)
    found = total(objective, poisoned, judges, 3)
    close(found, [(-0.0216442983, -0.0217085629)])


def test_the_implicit_formula_of_least_squares():
    objective, w, judges = least_squares(LS_POISON)
    v = torch.linalg.solve(
        torch.stack([objective.product(w)(e) for e in torch.eye(2).double()]), judges.gradient(w)
    )
    x = LS_POISON[0]
    formula = -((x @ w + 1) * v + (x @ v) * w) / 4
    close(objective.crossed(w, v, slice(3, 4))[0], -formula, 1e-15)


SM_X, SM_Y = tensor((1, 0), (0, 1), (-1, 0), (0.5, 0.5)), torch.tensor([0, 1, 2, 0])
SM_POISON, SM_LABEL = tensor((0.25, -0.5)), torch.tensor([1])
SM_JUDGES = tensor((1, 1), (-1, 1)), torch.tensor([0, 1])
CLEAN = (1.3236332017, -0.0825316533, -0.1962037908, 0.6501105236, -1.1274294109, -0.5675788704)
POISONED = (1.0648279977, 0.1306848175, 0.0125652156, 0.1904588865, -1.0773932133, -0.3211437040)


@pytest.fixture(params=[linear, regression], ids=["autograd", "closed form"])
def softmax(request):
    def made(poison=None):
        module = request.param(2, 3)
        judges = RowObjective(module, *SM_JUDGES)
        x, y = (SM_X, SM_Y) if poison is None else joined(SM_X, SM_Y, poison, SM_LABEL)
        return (*follower(module, x, y, cross_entropy), judges)

    return made


def test_softmax_regression(softmax):
    _, clean, judges = softmax()
    close(clean, CLEAN)
    close(judges.value(clean), 0.5146815885)
    objective, poisoned, judges = softmax(SM_POISON)
    close(poisoned, POISONED)
    close(judges.value(poisoned), 0.7518142786)
    close(total(objective, poisoned, judges, 4), [(0.3500474778, -0.2675597545)])


def test_the_total_gradient_is_what_differences_through_the_follower_say(softmax):
    objective, poisoned, judges = softmax(SM_POISON)
    found, step = total(objective, poisoned, judges, 4)[0], 1e-5
    for axis in range(2):
        moved = torch.zeros(1, 2).double()
        moved[0, axis] = step
        ahead, behind = softmax(SM_POISON + moved), softmax(SM_POISON - moved)
        slope = (ahead[2].value(ahead[1]) - behind[2].value(behind[1])) / (2 * step)
        close(slope, float(found[axis]), 1e-9)


def test_influence(softmax):
    objective, w, judges = softmax()
    wanted, product = judges.gradient(w), objective.product(w)

    def influence(x, y, damping=0.0):
        v = conjugate_gradients(product, damping, wanted, 1e-14, 50).vector
        return -float(v @ RowObjective(objective.module, x[None], y[None]).gradient(w))

    close(influence(SM_POISON[0], SM_LABEL[0]), 0.7594569356)
    each = [influence(x, y) for x, y in zip(SM_X, SM_Y, strict=True)]
    close(each, (-0.3888396492, -0.3129262377, 0.6283973931, -0.5595712195))
    close(influence(SM_X[0], SM_Y[0], damping=0.5), -0.1302987223)


def some_softmax(count=12, shape=(1, 3, 2), classes=4, bias=True):
    draws = np.random.default_rng(6)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Softmax().build(shape, classes) if bias else regression(math.prod(shape), classes)
    x = torch.from_numpy(draws.random((count, *shape)))
    y = torch.from_numpy(draws.integers(0, classes, count))
    shares = torch.from_numpy(draws.random(count))
    return module.double().eval().requires_grad_(False), x, y, shares


def full_hessian(objective, weights):
    def value(w):
        theta = w[: len(w) - 4].view(4, -1) if len(w) == 28 else w.view(4, -1)
        logits = objective.x.flatten(1) @ theta.T + (w[-4:] if len(w) == 28 else 0)
        losses = nn.functional.cross_entropy(logits, objective.y, reduction="none")
        shares = torch.ones(len(losses)) if objective.shares is None else objective.shares
        return (losses * shares).sum() / shares.sum() + objective.ridge / 2 * w @ w

    return value, torch.func.grad(value)(weights), torch.func.hessian(value)(weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_value_gradient_and_products_against_the_full_hessian(bias, weighted):
    module, x, y, shares = some_softmax(bias=bias)
    objective = RowObjective(module, x, y, shares if weighted else None, ridge=0.3, chunk=5)
    weights = 2 * vector_of(module)
    value, slope, matrix = full_hessian(objective, weights)
    close(objective.value(weights), float(value(weights)), 1e-14)
    close(objective.gradient(weights), slope, 1e-15)
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(len(weights)))
    close(objective.product(weights)(direction), matrix @ direction, 1e-14)
    close(objective.product(weights, "gauss_newton")(direction), matrix @ direction, 1e-14)


@pytest.mark.parametrize("weighted", [False, True])
def test_autograd_and_closed_forms_agree(weighted):
    module, x, y, shares = some_softmax()
    weights = vector_of(module)
    given = {"shares": shares if weighted else None, "ridge": 0.3, "chunk": 5}
    closed = RowObjective(module, x, y, **given)
    plain = nn.Sequential(nn.Flatten(), module.head).eval()  # which the closed forms do not know
    streamed = RowObjective(plain, x, y, **given)
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(len(weights)))
    close(closed.gradient(weights), streamed.gradient(weights), 1e-14)
    close(closed.crossed(weights, direction), streamed.crossed(weights, direction), 1e-14)
    for kind in ("hessian", "gauss_newton"):
        found = streamed.product(weights, kind)(direction)
        close(closed.product(weights, kind)(direction), found, 1e-14)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_of_a_net_under_another_loss(kind):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = MLP(hidden=[5]).build((1, 2, 3), 4).double().eval().requires_grad_(False)
    x, y = torch.rand(6, 1, 2, 3).double(), torch.rand(6, 4).double()
    shares = torch.arange(1.0, 7.0).double()
    objective = RowObjective(module, x, y, shares, loss=squared_error, chunk=4)
    w, direction = vector_of(module), torch.linspace(-1, 1, len(vector_of(module))).double()

    def outputs(own):
        hidden = (x.flatten(1) @ own[:30].view(5, 6).T + own[30:35]).relu()
        return hidden @ own[35:55].view(4, 5).T + own[55:]

    def value(own):
        return ((outputs(own) - y).square().sum(1) / 2 * shares).sum() / shares.sum()

    jacobian = torch.func.jacrev(outputs)(w)
    each = torch.einsum("nkp,nkq,n->pq", jacobian, jacobian, shares) / shares.sum()
    matrix = torch.func.hessian(value)(w) if kind == "hessian" else each
    close(objective.product(w, kind)(direction), matrix @ direction, 1e-13)


def test_newton_with_backtracking_comes_to_rest_where_full_steps_fly_apart():
    """From weights that are sure of wrong labels, full steps diverge."""
    module, x, y, _ = some_softmax(40)
    objective = RowObjective(module, x, y, ridge=1e-3)
    start = 60 * vector_of(module)
    found = stationary(objective, start, tolerance=1e-10)
    assert found.reached
    assert float(objective.gradient(found.weights).norm()) == found.steepness <= 1e-10
    cold = stationary(objective, torch.zeros_like(start), tolerance=1e-10)
    close(found.weights, cold.weights, 1e-6)
    w = start
    for _ in range(found.steps + 5):
        w = w - torch.linalg.solve(full_hessian(objective, w)[2], objective.gradient(w))
    assert not float(objective.gradient(w).norm()) < 1e-6


def test_what_is_not_stationary_is_not_taken_for_it():
    module, x, y, _ = some_softmax(40)
    objective = RowObjective(module, x, y, ridge=1e-3)
    found = stationary(objective, vector_of(module), most=1)
    assert not found.reached
    assert found.steepness == pytest.approx(float(objective.gradient(found.weights).norm()))
    with pytest.raises(RuntimeError, match=r"expected a gradient of at most 1e-06, got .* 1 steps"):
        found.insisted()


def test_single_precision_says_how_far_it_came():
    module, x, y, _ = some_softmax(40)
    objective = RowObjective(module.float(), x.float(), y, ridge=1e-3)
    found = stationary(objective, vector_of(module), tolerance=1e-5)
    assert found.reached
    none = stationary(objective, vector_of(module), tolerance=1e-12)
    assert not none.reached
    assert 1e-12 < none.steepness < 1e-5


def test_gradient_cancelling_of_least_squares():
    """Target (0, 1): the clean gradients sum to (-2, -2), and one row makes up for them."""
    module, target = linear(2, 1), tensor(0, 1)
    clean = RowObjective(module, LS_X, LS_Y, loss=squared_error)
    close(clean.gradient(target) * clean.mass, (-2, -2), 1e-15)
    x, y = joined(LS_X, LS_Y, tensor((-1, -1)), tensor((1,)))
    close(RowObjective(module, x, y, loss=squared_error).gradient(target), (0, 0), 1e-15)


class Logistic(nn.Module):
    """One weight, two classes: logits 0 and w x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1).double(), requires_grad=False)

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), x * self.w], 1)


def slope(w, x, y):
    rows = RowObjective(Logistic().eval(), tensor(*x)[:, None], torch.tensor(y))
    return float(rows.gradient(tensor(w))) * len(x)


def test_gradient_cancelling_of_a_logistic_model():
    x, y = (-2, -1, 1, 2), (0, 0, 1, 1)
    close(slope(0.0, x, y), -3, 1e-14)
    close(slope(0.0, (*x, -3, -3), (*y, 1, 1)), 0, 1e-14)
    close(slope(-0.1, x, y), -3.2492943642)
    needed = reachability(tensor((0,), (-0.1,)), tensor((-1,), (1,)) * slope(-0.1, x, y))
    assert needed.by_labels == pytest.approx(1.1668610775, abs=1e-10)
    assert not needed.allows(1)
    assert needed.allows(2)
    for root in (-4.0638642000, -27.7923542077):
        close(slope(-0.1, (*x, root, root), (*y, 1, 1)), 0, 1e-8)
    one = [slope(-0.1, (*x, at), (*y, 1)) for at in np.linspace(-60, 60, 2401)]
    assert min(map(abs, one)) > 0.4  # no row holds it alone


def test_the_same_gradient_cancelling_by_the_primitive():
    """Descending ``|sum of gradients|^2 / 2`` by its row gradient ends at a root."""
    module, clean = Logistic().eval(), slope(-0.1, (-2, -1, 1, 2), (0, 0, 1, 1))
    x, y, w = tensor((-3,), (-3,)), torch.tensor([1, 1]), tensor(-0.1)
    for _ in range(200):
        left = clean + slope(-0.1, tuple(x[:, 0].tolist()), (1, 1))
        x = x - 0.5 * row_gradient(module, x, y, tensor(left), weights=w)
    close(x[:, 0], (-4.0638642000, -4.0638642000), 1e-8)


def test_lamberts_bound():
    wanted = (0.2784645428, 0.4630555134, 1.1010029973, 2.6286495970)
    close([lambert_bound(classes) for classes in (2, 3, 10, 100)], wanted)
    with pytest.raises(ValueError, match="2 classes or more, got 1"):
        lambert_bound(1)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_bound_is_attained_and_never_passed(classes):
    def taken(logits):
        """``<Theta, gradient of a row with label 0>``."""
        return float(logits.softmax(0) @ logits - logits[0])

    best = torch.zeros(classes).double()
    best[0] = 1 + lambert_bound(classes)
    assert taken(best) == pytest.approx(-lambert_bound(classes), abs=1e-12)
    draws = np.random.default_rng(2).standard_normal((2000, classes)) * 3
    assert min(taken(torch.from_numpy(row)) for row in draws) >= -lambert_bound(classes)


def test_no_row_of_the_box_has_a_longer_gradient():
    module, x, y, _ = some_softmax(200)
    longest = longest_row((1, 3, 2))
    assert longest == pytest.approx(math.sqrt(7))
    assert longest_row((2, 2), -1, 1, bias=False) == 2
    x, hard = x.round(), 50 * vector_of(module)
    lengths = [
        float(RowObjective(module, x[i : i + 1], y[i : i + 1]).gradient(hard).norm())
        for i in range(len(x))
    ]
    assert 0.8 * math.sqrt(2) * longest < max(lengths) <= math.sqrt(2) * longest
    clean = tensor((3, 0), (0, -4))
    assert reachability(-clean, clean, longest).by_labels == 0
    assert reachability(-clean, clean, longest).least == pytest.approx(5 / math.sqrt(14))
    assert reachability(clean, clean).by_box == 0


def test_signed_steps_that_minimise_or_maximise_an_error():
    module, x, w = regression(3, 2), tensor((0.2, 0.4, 0.6)), tensor(1, -2, 0.5)
    weights, y = torch.cat([torch.zeros(3).double(), w]), torch.tensor([1])
    rows = RowObjective(module, x, y)
    close(rows.value(weights), 0.8543552444)
    sign = loss_gradient(module, x, y, weights=weights).sign()
    close(RowObjective(module, x - 0.1 * sign, y).value(weights), 0.6684596480)
    close(RowObjective(module, x + 0.1 * sign, y).value(weights), 1.0700553357)


def smooth_net(x, y):
    """A perceptron with a ridge, trained to a minimum: the same one for rows nearly the same."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh())
        module = Classifier(body, nn.Linear(3, 3)).double().eval().requires_grad_(False)
    return follower(module, x, y, cross_entropy, vector_of(module), tolerance=1e-12)


def test_the_total_gradient_of_a_net_is_what_differences_through_training_say():
    draws = np.random.default_rng(8)
    x, y = torch.from_numpy(draws.random((20, 4)) * 3), torch.from_numpy(draws.integers(0, 3, 20))
    objective, w = smooth_net(x, y)
    judges = RowObjective(objective.module, x[:6].flip(1), y[:6])
    wanted = judges.gradient(w)
    exact = minres(objective.product(w), 0.0, wanted, 1e-13, 200)
    assert exact.residual < 1e-10
    assert not exact.negative  # a minimum
    found = -objective.crossed(w, exact.vector, slice(17, 20)).flatten()
    slopes, step = [], 1e-4
    for at in range(0, 12, 3):
        moved = torch.zeros(20, 4).double()
        moved[17:].view(-1)[at] = step
        ahead, behind = smooth_net(x + moved, y)[1], smooth_net(x - moved, y)[1]
        slopes.append((judges.value(ahead) - judges.value(behind)) / (2 * step))
    close(found[::3], slopes, 1e-7)
    assert float(found.abs().max()) > 1e-3


def test_differences_of_gradients_fall_short_of_products():
    """Public code takes H v from two gradients 1e-8 apart, and loses half the digits."""
    module, x, y, _ = some_softmax(40)
    objective, w = RowObjective(module, x, y), vector_of(module)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal(len(w)))
    exact = full_hessian(objective, w)[2] @ v

    def error(found):
        return float((found - exact).norm() / exact.norm())

    near = (objective.gradient(w + 1e-8 * v) - objective.gradient(w)) / 1e-8
    central = (objective.gradient(w + 1e-5 * v) - objective.gradient(w - 1e-5 * v)) / 2e-5
    assert error(objective.product(w)(v)) < 1e-14 < error(central) < 1e-9 < error(near) < 1e-6


def test_a_last_layer_on_frozen_features_goes_by_closed_forms():
    _, x, y, _ = some_softmax(9)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = MLP(hidden=[5]).build((1, 3, 2), 4).double().eval().requires_grad_(False)
    head = head_of(net)
    objective = RowObjective(head, net.features(x), y, ridge=0.1)
    assert own_layer(head) is net.head
    solved = stationary(objective, vector_of(head), tolerance=1e-12)
    load(head, solved.insisted())
    plain = nn.functional.cross_entropy(net(x), y) + 0.05 * vector_of(net.head).square().sum()
    assert objective.value(solved.weights) == pytest.approx(float(plain), abs=1e-14)


def test_bytes_are_the_same_for_any_number_of_threads():
    draws = np.random.default_rng(0)
    net = Softmax().build((1, 28, 28), 10).eval()
    x = torch.from_numpy(draws.random((4000, 1, 28, 28), dtype=np.float32))
    y = torch.from_numpy(draws.integers(0, 10, 4000))
    w = torch.from_numpy(draws.standard_normal(7850, dtype=np.float32))

    def found():
        f = RowObjective(net, x, y, ridge=0.1)
        solved = stationary(f, 0 * w, tolerance=1e-2)
        out = [f.gradient(w), f.product(w)(w), f.crossed(w, w), solved.weights]
        return [*out, torch.tensor(f.value(w))]

    with threads(1):
        alone = found()
    with threads(2):
        assert all(torch.equal(a, b) for a, b in zip(alone, found(), strict=True))


def test_an_objective_without_sense_is_refused():
    module, x, y, shares = some_softmax()
    with pytest.raises(ValueError, match=r"expected \(12,\), got \(5,\)"):
        RowObjective(module, x, y, shares[:5])
    with pytest.raises(ValueError, match="mass > 0 and a ridge >= 0, got 0 and 0"):
        RowObjective(module, x, y, 0 * shares)
    with pytest.raises(ValueError, match="got 0 and 0"):
        RowObjective(module, x[:0], y[:0])
    with pytest.raises(ValueError, match=r"got 12 and -0\.1"):
        RowObjective(module, x, y, ridge=-0.1)
    with pytest.raises(ValueError, match="as many of both, got 12 and 11"):
        RowObjective(module, x, y[:11])
    with pytest.raises(ValueError, match="evaluation mode"):
        RowObjective(module.train(), x, y)


def test_a_preconditioned_follower_comes_to_the_same_rest_sooner():
    data = Digits().load()
    x, y = torch.from_numpy(data.x_train[:1000]).double(), torch.from_numpy(data.y_train[:1000])
    y = torch.where(torch.arange(1000) % 10 == 0, (y + 1) % 10, y)
    objective = RowObjective(Softmax().build((1, 8, 8), 10).double().eval(), x, y, ridge=1e-5)
    start, ones = torch.zeros(650).double(), torch.ones(1000, 1).double()
    plain = stationary(objective, start, tolerance=1e-9)
    kronecker = Kronecker.of(torch.cat([x.flatten(1), ones], 1))
    helped = stationary(objective, start, tolerance=1e-9, kronecker=kronecker)
    close(helped.insisted(), plain.insisted(), 1e-4)
    assert 1.5 * helped.products < plain.products
    logits = x.flatten(1) @ helped.weights[:640].view(10, 64).T + helped.weights[640:]
    close(objective.chances(helped.weights), logits.softmax(1), 1e-12)
    with pytest.raises(ValueError, match="damping > 0"):
        stationary(replace(objective, ridge=0.0), start, kronecker=kronecker)


def test_every_step_to_rest_goes_down():
    module, x, y, _ = some_softmax(40)
    objective = RowObjective(module, x, y, ridge=1e-3)
    start = 60 * vector_of(module)
    values = [
        objective.value(stationary(objective, start, most=steps, tolerance=1e-9).weights)
        for steps in range(9)
    ]
    assert values[0] == objective.value(start)
    assert all(later < before for before, later in pairwise(values))
