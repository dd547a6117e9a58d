"""The matrix of per-row gradients, in all its forms, against plain autograd in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from learning.curvature.last_layer import LastLayer
from learning.curvature.per_row import Stored
from learning.curvature.vectors import weights_of
from learning.models.parts.modules import Classifier
from learning.training.job import Trained
from strategies.base import Defender
from strategies.filtering.parts.gradients import all_layers, kept_if_small, last_layer
from strategies.filtering.parts.lanczos import top_eigenpair

SHAPE, CLASSES, ROWS = (2, 5, 4), 3, 11


def small_net(dtype=torch.float64):
    """A net with what makes per-row gradients hard: BatchNorm, in-place ReLU, pooling, dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(),
        )  # fmt: skip
        net = Classifier(body, nn.Linear(5, CLASSES)).to(dtype)
        net.train()
        net(torch.rand(40, *SHAPE, dtype=dtype))  # running statistics that are not 0 and 1
    return net.eval().requires_grad_(False)


def some_rows(count=ROWS):
    draws = np.random.default_rng(1)
    return draws.random((count, *SHAPE), dtype=np.float32), draws.integers(0, CLASSES, count)


def knowing(batch_size=1024, memory_gib=4.0):
    agents = ("a",)
    return Defender(0, SHAPE, CLASSES, agents, 1, batch_size=batch_size, memory_gib=memory_gib)


def by_autograd(net, x, y):
    """One row after the other."""
    out = []
    weights = [p.requires_grad_() for p in net.parameters()]
    for image, label in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        loss = F.cross_entropy(net(image[None].double()), label[None])
        grads = torch.autograd.grad(loss, weights)
        out.append(torch.cat([g.flatten() for g in grads]))
    net.requires_grad_(False)
    return torch.stack(out)


def trained(net):
    return Trained(net, (), ROWS, 1, 0.0)


@pytest.mark.parametrize("batch_size", [1, 4, 1024])
def test_gradients_of_all_layers_are_autograds(batch_size):
    net, (x, y) = small_net(), some_rows()
    wanted = by_autograd(net, x, y)
    streamed = all_layers(trained(net), x, y, knowing(batch_size))
    stored = streamed.stored()
    torch.testing.assert_close(stored.matrix, wanted, rtol=1e-10, atol=1e-12)
    draws = torch.Generator().manual_seed(2)
    v = torch.randn(wanted.shape[1], generator=draws, dtype=torch.float64)
    u = torch.randn(ROWS, generator=draws, dtype=torch.float64)
    for form in (streamed, stored):
        assert (form.rows, form.width) == wanted.shape
        assert form.dtype == torch.float64
        torch.testing.assert_close(form.times(v), wanted @ v, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(form.transposed(u), wanted.T @ u, rtol=1e-10, atol=1e-12)
        some = np.array([7, 0, 3])
        torch.testing.assert_close(form.take(some).times(v), (wanted @ v)[some])


def test_the_last_layer_is_the_last_columns_of_all_layers():
    net, (x, y) = small_net(), some_rows()
    wanted = by_autograd(net, x, y)
    last = 5 * CLASSES + CLASSES  # head weight, then bias
    features, logits = net.features(torch.from_numpy(x).double()), net(torch.from_numpy(x).double())
    form = LastLayer.of(features.numpy(), logits.numpy(), y, torch.device("cpu"))
    explicit = form.errors[:, :, None] * form.features[:, None]
    torch.testing.assert_close(explicit[:, :, :5].flatten(1), wanted[:, -last:-CLASSES])
    torch.testing.assert_close(explicit[:, :, 5], wanted[:, -CLASSES:])
    matrix, draws = explicit.flatten(1), torch.Generator().manual_seed(2)
    v = torch.randn(form.width, generator=draws, dtype=torch.float64)
    u = torch.randn(ROWS, generator=draws, dtype=torch.float64)
    torch.testing.assert_close(form.times(v), matrix @ v)
    torch.testing.assert_close(form.transposed(u), matrix.T @ u)
    torch.testing.assert_close(form.take(np.array([2, 2])).times(v), (matrix @ v)[[2, 2]])


def test_float32_models_give_float32_and_stay_as_they_are():
    net, (x, y) = small_net(torch.float32), some_rows()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    form = all_layers(trained(net), x, y, knowing())
    assert form.stored().matrix.dtype == torch.float32
    form.times(torch.ones(form.width))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in net.parameters())
    assert not net.training
    assert weights_of(net).keys() == dict(net.named_parameters()).keys()
    near = last_layer(trained(net), x, y, knowing())
    assert near.dtype == torch.float64


def test_memory_decides_what_is_kept_and_how_many_rows_a_pass_has():
    net, (x, y) = small_net(torch.float32), some_rows()
    wide = all_layers(trained(net), x, y, knowing())
    assert wide.chunk == 256  # on a CPU
    assert isinstance(kept_if_small(wide, knowing()), Stored)
    bytes_of_all = ROWS * wide.width * 4
    tight = knowing(memory_gib=1.9 * bytes_of_all / 2**30)
    assert kept_if_small(all_layers(trained(net), x, y, tight), tight).__class__ is wide.__class__
    chunks = [
        all_layers(trained(net), x, y, knowing(memory_gib=gib / 1024)).chunk for gib in (2, 1, 0.5)
    ]
    assert all(a > b >= 1 for a, b in pairwise(chunks))


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_lanczos_finds_the_top_of_a_known_matrix(n):
    draws = torch.Generator().manual_seed(n)
    rows = torch.randn(n, 9, generator=draws, dtype=torch.float64)
    matrix = rows @ rows.T  # of rank 9 at most
    start = torch.randn(n, generator=draws, dtype=torch.float64)
    found = top_eigenpair(lambda q: matrix @ q, start, 1e-10, 60)
    values, vectors = torch.linalg.eigh(matrix)
    assert found.value == pytest.approx(float(values[-1]), rel=1e-10)
    torch.testing.assert_close((found.vector @ vectors[:, -1]).abs(), torch.tensor(1.0).double())
    error = torch.linalg.vector_norm(matrix @ found.vector - found.value * found.vector)
    assert float(error) <= 2e-10 * found.value
    assert found.steps <= min(n, 10)


def test_lanczos_ends_early_with_an_honest_residual_and_takes_zero():
    spectrum = torch.linspace(1, 2, 200, dtype=torch.float64)
    start = torch.ones(200, dtype=torch.float64)
    found = top_eigenpair(lambda q: spectrum * q, start, 1e-12, 5)
    error = torch.linalg.vector_norm(spectrum * found.vector - found.value * found.vector)
    assert found.steps == 5
    assert float(error) / found.value == pytest.approx(found.residual, rel=1e-6)
    assert found.residual > 1e-3
    none = top_eigenpair(lambda q: 0 * q, start, 1e-12, 5)
    assert (none.value, none.residual, float(none.vector.abs().max())) == (0.0, 0.0, 0.0)
