"""The gradient by rows of <v, weight gradient>: closed forms and autograd against differences."""

import numpy as np
import pytest
import torch
from torch import nn

from learning.curvature.losses import cross_entropy, squared_error
from learning.curvature.row_gradient import loss_gradient, row_gradient
from learning.curvature.vectors import load, vector_of, weights_of
from learning.models.mlp import MLP
from learning.models.parts.modules import Classifier
from learning.models.softmax import Softmax
from learning.training.device import threads

SHAPE, CLASSES = (2, 6, 5), 3
FORMS = ("auto", "double_backward", "forward_over_reverse")


def cnn():
    """BatchNorm, in-place ReLU, pooling and dropout: what makes second derivatives hard."""
    body = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 7), nn.Tanh(),
    )  # fmt: skip
    net = Classifier(body, nn.Linear(7, CLASSES)).train()
    net(torch.rand(40, *SHAPE))  # running statistics that are not 0 and 1
    return net


MODELS = {
    "softmax": lambda: Softmax().build(SHAPE, CLASSES),
    "no bias": lambda: Classifier(nn.Sequential(nn.Flatten()), nn.Linear(60, CLASSES, bias=False)),
    "mlp": lambda: MLP(hidden=[8, 5]).build(SHAPE, CLASSES),
    "cnn": cnn,
}


def made(name, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return MODELS[name]().to(dtype).eval().requires_grad_(False)


def rows(count=7, dtype=torch.float64):
    draws = np.random.default_rng(4)
    x = torch.from_numpy(draws.random((count, *SHAPE))).to(dtype)
    return x, torch.from_numpy(draws.integers(0, CLASSES, count))


def direction(net, seed=9):
    weights = vector_of(net)
    draws = np.random.default_rng(seed).standard_normal(len(weights))
    return torch.from_numpy(draws).to(weights.dtype)


def along(net, x, y, vector):
    """``<v, gradient of the summed loss>`` by one plain backward pass."""
    weights = {name: w.clone().requires_grad_() for name, w in weights_of(net).items()}
    logits = torch.func.functional_call(net, (weights, dict(net.named_buffers())), (x,))
    loss = nn.functional.cross_entropy(logits, y, reduction="sum")
    slopes = torch.autograd.grad(loss, list(weights.values()))
    return float(torch.cat([slope.flatten() for slope in slopes]) @ vector)


def differences(function, x, coordinates, step=1e-5):
    out = []
    for at in coordinates:
        moved = torch.zeros_like(x)
        moved.view(-1)[at] = step
        out.append((function(x + moved) - function(x - moved)) / (2 * step))
    return np.array(out)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_against_central_differences(name, form):
    net, (x, y) = made(name), rows()
    vector = direction(net)
    found = row_gradient(net, x, y, vector, form=form)
    assert found.shape == x.shape
    at = np.random.default_rng(1).choice(x.numel(), 40, replace=False)
    wanted = differences(lambda moved: along(net, moved, y, vector), x, at)
    np.testing.assert_allclose(found.flatten()[at].numpy(), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_the_last_layer_is_that_vector_with_zeros_before(name):
    net, (x, y) = made(name), rows()
    head = direction(net.head)
    whole = torch.cat([torch.zeros(len(vector_of(net)) - len(head)).double(), head])
    found = row_gradient(net, x, y, head, layers="last")
    wanted = row_gradient(net, x, y, whole, form="double_backward")
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_pieces_and_threads_change_nothing_but_rounding(name):
    net, (x, y) = made(name, torch.float32), rows(dtype=torch.float32)
    vector = direction(net)
    whole = row_gradient(net, x, y, vector)
    pieces = row_gradient(net, x, y, vector, chunk=3)
    np.testing.assert_allclose(pieces.numpy(), whole.numpy(), rtol=1e-3, atol=1e-5)
    with threads(2):
        assert torch.equal(row_gradient(net, x, y, vector), whole)
    wide = row_gradient(net.double(), x.double(), y, vector.double())
    np.testing.assert_allclose(whole.numpy(), wide.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_weights_may_be_handed_in(name, form):
    net, (x, y) = made(name), rows()
    vector, there = direction(net), vector_of(net) + 0.1 * direction(net, 5)
    found = row_gradient(net, x, y, vector, weights=there, form=form)
    before = row_gradient(net, x, y, vector, form=form)
    load(net, there)
    np.testing.assert_array_equal(found.numpy(), row_gradient(net, x, y, vector, form=form).numpy())
    assert not torch.allclose(found, before)


def test_another_loss():
    net, (x, _) = made("mlp"), rows()
    wanted, vector = torch.full((7, CLASSES), 0.3).double(), direction(net)

    def inner(moved):
        weights = {n: w.clone().requires_grad_() for n, w in weights_of(net).items()}
        out = torch.func.functional_call(net, (weights, {}), (moved,))
        slopes = torch.autograd.grad((out - wanted).square().sum() / 2, list(weights.values()))
        return float(torch.cat([slope.flatten() for slope in slopes]) @ vector)

    at = np.arange(0, x.numel(), 9)
    for form in FORMS:
        found = row_gradient(net, x, wanted, vector, loss=squared_error, form=form)
        np.testing.assert_allclose(
            found.flatten()[at].numpy(), differences(inner, x, at), rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("name", MODELS)
def test_the_plain_gradient_of_a_loss(name):
    net, (x, y) = made(name), rows()
    found = loss_gradient(net, x, y, chunk=2)
    at = np.arange(0, x.numel(), 5)
    wanted = differences(
        lambda moved: float(nn.functional.cross_entropy(net(moved), y, reduction="sum")), x, at
    )
    np.testing.assert_allclose(found.flatten()[at].numpy(), wanted, rtol=1e-6, atol=1e-8)
    there = vector_of(net) + 0.1 * direction(net, 5)
    moved = loss_gradient(net, x, y, weights=there)
    load(net, there)
    assert torch.equal(moved, loss_gradient(net, x, y))
    assert not torch.allclose(moved, found)


def test_a_sure_model_still_moves_rows():
    """Where float32 has p = 1, 1 - p is 0 and a gradient that is made of it is gone."""
    net = made("softmax", torch.float32)
    x, _ = rows(3, torch.float32)
    load(net, 80 * vector_of(net))
    y = net(x).argmax(1)
    assert float(net(x).softmax(1).amax(1).max()) == 1
    for form in FORMS[1:]:
        assert bool((loss_gradient(net, x, y).flatten(1).abs().amax(1) > 0).all())
        found = row_gradient(net, x, y, direction(net), form=form)
        closed = row_gradient(net, x, y, direction(net))
        np.testing.assert_allclose(found.numpy(), closed.numpy(), rtol=1e-3, atol=1e-12)


def test_what_does_not_fit_is_refused():
    net, (x, y) = made("mlp"), rows()
    with pytest.raises(ValueError, match=r"v of a row gradient: .* vector of \d+ .*, got \(3"):
        row_gradient(net, x, y, torch.zeros(3).double())
    with pytest.raises(ValueError, match="w of a row gradient"):
        row_gradient(net, x, y, direction(net), weights=torch.zeros(3).double())
    with pytest.raises(
        ValueError, match=r"expected a vector of \d+ of the rows' torch.float64, got"
    ):
        row_gradient(net, x, y, direction(net).float())
    with pytest.raises(ValueError, match="expected as many of both, got 7 and 3"):
        loss_gradient(net, x, y[:3])
    vector = direction(net.train())
    with pytest.raises(ValueError, match=r"evaluation mode: call its eval\(\)"):
        row_gradient(net, x, y, vector)
    with pytest.raises(ValueError, match=r"evaluation mode: call its eval\(\)"):
        loss_gradient(net, x, y)
    net.eval()
    with pytest.raises(ValueError, match="linear `head`"):
        row_gradient(nn.Flatten(), x, y, torch.zeros(0), layers="last")
    with pytest.raises(ValueError, match="that of cross_entropy"):
        row_gradient(net, x, y, direction(net.head), layers="last", loss=squared_error)
    with pytest.raises(ValueError, match=r"expected a vector of \d+, got \(2,\)"):
        load(net, torch.zeros(2))


def test_the_loss_is_plain_cross_entropy():
    net, (x, y) = made("mlp"), rows()
    wanted = nn.functional.cross_entropy(net(x), y, reduction="none")
    np.testing.assert_allclose(cross_entropy(net(x), y).numpy(), wanted.numpy(), rtol=1e-12)
