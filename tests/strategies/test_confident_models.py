"""What a filter or hook takes from a model does not depend on the scale of its logits.

From a margin of 17 nats on the softmax of a label is exactly 1 in float32, and from 37 on in
float64: gradients and losses computed by it are 0, and the method stands still.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from learning.curvature.last_layer import LastLayer
from learning.curvature.losses import bent, cross_entropy
from learning.models.parts.modules import Classifier
from learning.pool import DEFENDER, Block, Pool
from learning.training.batches.batches import Batch
from learning.training.engine.loop import Loop, log_costs
from learning.training.job import Trained
from learning.training.spec import TrainingSpec
from strategies.base import Defender
from strategies.filtering.influence import Influence
from strategies.filtering.iterative_trimmed_loss import IterativeTrimmedLoss
from strategies.filtering.loss_defence import LossDefence
from strategies.filtering.parts.gradients import all_layers, last_layer
from strategies.filtering.parts.losses import cross_entropies, odds_against
from strategies.filtering.sever import Sever
from strategies.filtering.trim import Trim

SCALES = [1, 10, 100, 300]
ROWS = 40


def two_classes():
    """Rows that one direction tells apart by far, each by another margin; all labels are right."""
    draws = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    x = draws.random((ROWS, 1, 2, 2)).astype(np.float32) * 0.2
    margins = draws.permutation(np.linspace(0.3, 0.7, ROWS)).astype(np.float32)
    x[:, 0, 0, 0] = np.where(y == 1, 0.5 + margins / 2, 0.5 - margins / 2)
    return Pool((Block(DEFENDER, 3, x, y),), 2), margins


class Exact(Classifier):
    """Computes in the type of its weights."""

    def features(self, x):
        return super().features(x.to(self.head.weight.dtype))


def model(scale, dtype=torch.float32):
    """A net whose margin is 20 times that of the pixel, times the scale."""
    head = nn.Linear(4, 2)
    head.weight.data = torch.zeros(2, 4)
    head.weight.data[1, 0], head.bias.data = 40.0, torch.tensor([0.0, -20.0])
    net = Exact(nn.Flatten(), head).to(dtype)
    for weights in head.parameters():
        weights.data *= scale
    return Trained(net.eval().requires_grad_(False), (), ROWS, 1, 0.0)


def knowing():
    return Defender(1, (1, 2, 2), 2, ("a",), 1)


def played(rule, pool, scale):
    steps = rule.inspect(pool, knowing())
    try:
        asked = next(steps)
        while True:
            asked = steps.send([model(scale) for _ in asked])
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "rule",
    [
        LossDefence(share=0.2),
        LossDefence(share=0.2, per="class"),
        IterativeTrimmedLoss(kept_share=0.8, rounds=2),
        Trim(expected_poison=0.2, max_turns=2),
        Sever(share=0.2, rounds=1),
        Sever(share=0.2, rounds=1, layers="all"),
    ],
    ids=lambda rule: f"{rule.kind}-{getattr(rule, 'per', '')}-{getattr(rule, 'layers', '')}",
)
def test_the_rows_that_fit_least_go_whatever_the_scale(rule, scale):
    pool, margins = two_classes()
    verdict = played(rule, pool, scale)
    if getattr(rule, "per", "") == "class":
        wanted = {
            int(i)
            for k in (0, 1)
            for i in pool.ids[pool.y == k][np.argsort(margins[pool.y == k])[:4]]
        }
    else:
        wanted = set(pool.ids[np.argsort(margins)[:8]].tolist())
    if rule.kind == "sever":  # rows whose gradient is nothing beside the others' do not stand out
        assert pool.ids[margins.argmin()] in verdict.removed
        assert verdict.scores.argmax() == margins.argmin()
    else:
        assert set(verdict.removed.tolist()) == wanted
    assert np.isfinite(verdict.scores).all()


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("scale", SCALES)
def test_per_class_no_class_is_lost_beside_one_that_fits_less(layers, scale):
    """Margins of 2 to 6 nats in one class and of 12 to 14 in the other, times the scale."""
    pool, margins = two_classes()
    near = np.where(np.arange(ROWS) % 2 == 0, margins / 2 - 0.05, margins / 4 + 0.5)
    x = pool.x.copy()
    x[:, 0, 0, 0] = np.where(pool.y == 1, 0.5 + near / 2, 0.5 - near / 2)
    wide = Pool((Block(DEFENDER, 3, x, pool.y),), 2)
    rule = Sever(share=0.1, rounds=1, per="class", layers=layers)
    removed = played(rule, wide, scale).removed
    for label in (0, 1):
        own = wide.ids[wide.y == label]
        assert own[near[wide.y == label].argmin()] in removed


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("scale", SCALES)
def test_influence_ranks_whatever_the_scale(scale, layers):
    """Of a wrong label in each class one harms the rows that judge, at every scale."""
    block = two_classes()[0].blocks[0]
    y = block.y.copy()
    y[5:7] = 1 - y[5:7]
    pool = Pool((block, Block("ada", 100, block.x, y)), 2)
    verdict = played(Influence(remove="count", count=1, layers=layers, damping=1.0), pool, scale)
    assert verdict.removed.tolist() in ([105], [106])
    assert np.isfinite(verdict.scores).all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_in_units_are_those_of_the_odds_times_their_share(scale, dtype):
    """By autograd of the odds in float64, for each form; none is lost beside the largest."""
    pool, _ = two_classes()
    trained = model(scale, dtype)
    exact = copy.deepcopy(trained.module).double()
    x, y = torch.from_numpy(pool.x).double(), torch.from_numpy(pool.y)
    wanted, odds = [], []
    for image, label in zip(x, y, strict=True):
        weights = [p.requires_grad_() for p in exact.parameters()]
        logits = exact(image[None])[0]
        r = logits[1 - label] - logits[label]
        wanted.append(torch.cat([g.flatten() for g in torch.autograd.grad(r, weights)]))
        odds.append(float(r.detach()))
    sizes = -np.logaddexp(0, -np.array(odds))
    wanted = torch.stack(wanted) * torch.from_numpy(np.exp(sizes - sizes.max()))[:, None]
    every = all_layers(trained, pool.x, pool.y, knowing())
    assert every.in_units().unit == pytest.approx(sizes.max(), rel=1e-5)
    loose = (
        {"rtol": 2e-3, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
    )
    torch.testing.assert_close(every.in_units().stored().matrix.double(), wanted, **loose)
    near = last_layer(trained, pool.x, pool.y, knowing()).in_units()
    v = torch.randn(
        wanted.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    u = torch.randn(ROWS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    streamed = every.in_units()
    torch.testing.assert_close(streamed.times(v.to(dtype)).double(), wanted @ v, **loose)
    torch.testing.assert_close(streamed.transposed(u.to(dtype)).double(), wanted.T @ u, **loose)
    explicit = (near.errors[:, :, None] * near.features[:, None]).flatten(1)
    assert float(explicit.abs().max()) > 0.5
    assert near.unit == pytest.approx(sizes.max(), rel=1e-4)


def test_a_gradient_that_float32_rounds_to_0_is_not():
    """Margin 20: the label's share of the softmax is 1 in float32; 1 - p is 2e-9."""
    logits = np.array([[0.0, 20.0]], np.float32)
    near = LastLayer.of(np.ones((1, 1), np.float32), logits, np.array([1]), torch.device("cpu"))
    small = 1 / (1 + np.exp(20.0))
    torch.testing.assert_close(near.errors, torch.tensor([[small, -small]], dtype=torch.float64))
    far = torch.tensor([[0.0, 60.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(cross_entropy(far, torch.tensor([1])).sum(), far)
    assert slope[0].tolist() == pytest.approx([np.exp(-60.0), -np.exp(-60.0)], rel=1e-5)


def test_losses_below_the_rounding_of_one_are_told_apart():
    logits = np.array([[0.0, m] for m in (30.0, 40.0, 700.0, 9000.0)])
    losses = cross_entropies(logits, np.ones(4, np.int64))
    np.testing.assert_allclose(losses[:3], np.exp([-30.0, -40.0, -700.0]), rtol=1e-9)
    assert losses[3] == 0
    assert odds_against(logits, np.ones(4, np.int64)).tolist() == [-30, -40, -700, -9000]


def test_curvature_of_a_sure_model_is_no_difference_of_like_numbers():
    chances = torch.tensor([[1.0, 1e-12]], dtype=torch.float32)
    got = bent(chances, torch.tensor([[5.0, 7.0]], dtype=torch.float32))
    torch.testing.assert_close(got, torch.tensor([[-2e-12, 2e-12]]), rtol=1e-5, atol=0)
    p = torch.softmax(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double(), 1)
    m = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).double()
    plain = p * (m - (p * m).sum(1, keepdim=True))
    torch.testing.assert_close(bent(p, m), plain)


class _Answers:
    """A net that answers with its inputs."""

    def __init__(self, scale):
        self.scale = scale

    def evaluate(self, x):
        return self.scale * x[..., 0, 0]


def worst_of(logits, scale, smoothing=0.0):
    """The version of each of three rows, of four, that MaxUp trains on; logits (4, 3, classes)."""
    classes = logits.shape[-1]
    labels = torch.zeros(1, 3, dtype=torch.int64)
    targets = nn.functional.one_hot(labels, classes).float()
    weights = torch.full((1, 3), 1 / 3)
    batches = [Batch(one[None, :, :, None, None], labels, targets, weights) for one in logits]
    loop = object.__new__(Loop)
    loop._net, loop._device, loop._bfloat16 = _Answers(scale), torch.device("cpu"), False
    loop._spec = TrainingSpec(label_smoothing=smoothing)
    picked = loop._worst(replace(batches[0], others=tuple(batches[1:]))).x[0, :, :, 0, 0]
    return [
        next(k for k in range(4) if torch.equal(logits[k, row], picked[row])) for row in range(3)
    ]


@pytest.mark.parametrize("scale", SCALES)
def test_maxup_picks_the_worst_version_of_a_sure_model(scale):
    """Margins of 18 and more: all losses are 0 in float32, and the first version always won."""
    margins = torch.tensor(
        [[40.0, 22.0, 19.0], [30.0, 25.0, 18.0], [18.5, 21.0, 60.0], [20.0, 20.0, 33.0]]
    )
    logits = torch.stack([margins, torch.zeros(4, 3)], -1)
    assert worst_of(logits, scale) == [2, 3, 1]


def test_maxup_never_picks_what_is_no_number():
    logits = (
        torch.tensor([[2.0, -1.0], [1.0, 0.0], [0.0, 0.0], [3.0, 0.0]]).repeat(1, 3).view(4, 3, 2)
    )
    logits[0, 0, 0], logits[2, 1, 1] = torch.nan, torch.inf
    assert worst_of(logits, 1) == [2, 1, 2]
    assert worst_of(torch.full((4, 3, 2), torch.inf) * torch.arange(1, 5)[:, None, None], 1)  # some


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_log_costs_are_logarithms_of_cross_entropies(smoothing):
    draws = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 30, 5, generator=draws, dtype=torch.float64)
    targets = torch.softmax(torch.randn(2, 30, 5, generator=draws, dtype=torch.float64), -1)
    batch = Batch(logits, targets.argmax(-1), targets, torch.ones(2, 30))
    wanted = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(0, 1), reduction="none", label_smoothing=smoothing
    )
    torch.testing.assert_close(log_costs(logits, batch, smoothing).exp().flatten(), wanted)
