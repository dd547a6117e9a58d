"""MaxUp: the worst of several versions of each row is what a step trains on."""

from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.models.mlp import MLP
from learning.models.softmax import Softmax
from learning.optimizers.sgd import SGD
from learning.pool import Block, Pool
from learning.seeds import torch_generator
from learning.shares import count_of
from learning.training.batches.order import visiting_order
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import BatchHook, Training
from learning.training.spec import ComputeSpec, TrainingSpec
from strategies.hooks.cutmix import CutMix
from strategies.hooks.maxup import MaxUp

SHAPE = (1, 4, 4)


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def make_pool(rows=29, first=0):
    draws = np.random.default_rng(first)
    x = draws.random((rows, *SHAPE), dtype=np.float32)
    return Pool((Block("a", first, x, draws.integers(0, 3, rows)),), 3)


def engine(model=None, dtype=torch.float32, **more):
    settings = {"epochs": 3, "batch_size": 8, "optimizer": SGD(lr=0.2), **more}
    compute = ComputeSpec(device="cpu", threads=1)
    recipe = Recipe(model or Softmax(), SHAPE, 3, TrainingSpec(**settings), compute, 5)
    return Engine(recipe, dtype=dtype)


def weights(trained):
    return torch.cat([p.flatten() for p in trained.module.parameters()])


class Blend(BatchHook):
    """Draws an image of noise for all rows, and changes labels too."""

    kind: Literal["blend"] = "blend"
    times: int = 3

    @property
    def tries(self):
        return self.times

    def mix(self, x, targets, generator):
        noise = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64)
        return 0.7 * x + 0.3 * noise.to(x.dtype), 0.9 * targets + 0.1 / 3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_training_is_the_formulas_by_hand(smoothing):
    """Softmax regression in float64: autograd through the maximum over versions, step by step."""
    pool = make_pool()
    table = engine(dtype=torch.float64, label_smoothing=smoothing)
    start = {k: v.clone().requires_grad_() for k, v in table.initial().module.state_dict().items()}
    w, b = start["head.weight"], start["head.bias"]
    (trained,) = table.train([Training(pool, (Blend(),))])
    velocity = [torch.zeros_like(w), torch.zeros_like(b)]
    for epoch in range(3):
        order = visiting_order(5, "", epoch, pool.ids)
        draws = torch_generator(5, "hooks/", round=epoch)
        for first in range(0, len(pool), 8):
            rows = order[first : first + 8]
            x = torch.from_numpy(pool.x[rows]).double()
            y = F.one_hot(torch.from_numpy(pool.y[rows]), 3).double()
            losses = []
            for _ in range(3):
                mixed, soft = Blend().mix(x, y, draws)
                logits = mixed.flatten(1) @ w.T + b
                losses.append(
                    F.cross_entropy(logits, soft, reduction="none", label_smoothing=smoothing)
                )
            worst = torch.stack(losses).max(0).values.mean()
            for p, v, g in zip((w, b), velocity, torch.autograd.grad(worst, (w, b)), strict=True):
                v.mul_(0.9).add_(g)
                p.data.sub_(0.2 * v)
    torch.testing.assert_close(trained.module.head.weight, w.detach(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(trained.module.head.bias, b.detach(), rtol=1e-9, atol=1e-10)


def test_versions_that_are_alike_train_as_one_to_the_bit():
    pool = make_pool()
    one, many = (
        engine(MLP(hidden=(6,))).train([Training(pool, (MaxUp(sigma=0.0, versions=m),))])[0]
        for m in (1, 5)
    )
    assert torch.equal(weights(one), weights(many))
    assert one.curve == many.curve


def test_more_versions_mean_larger_training_losses():
    pool, model = make_pool(64), MLP(hidden=(6,))
    first = [
        engine(model, epochs=1, optimizer=SGD(lr=1e-6, momentum=0.0))
        .train([Training(pool, (MaxUp(versions=m, sigma=0.5),))])[0]
        .curve[0]["train_loss"]
        for m in (1, 4, 16)
    ]
    assert first[0] < first[1] < first[2]


def test_a_model_is_the_same_beside_others_and_alone():
    hooks = (MaxUp(versions=3, sigma=0.3),)
    jobs = [Training(make_pool(n, 100 * n), hooks) for n in (29, 9, 40, 17)]
    together = engine(MLP(hidden=(6,))).train(jobs)
    for job, trained in zip(jobs, together, strict=True):
        (alone,) = engine(MLP(hidden=(6,))).train([job])
        assert torch.equal(weights(alone), weights(trained))


def test_hooks_before_it_act_once_and_hooks_after_it_on_each_version():
    seen = []

    class Count(BatchHook):
        kind: Literal["count"] = "count"
        name: str

        def mix(self, x, targets, generator):
            seen.append(self.name)
            return x, targets

    hooks = (Count(name="before"), MaxUp(versions=4), Count(name="after"))
    engine(epochs=1, batch_size=64).train([Training(make_pool(20), hooks)])
    assert (seen.count("before"), seen.count("after")) == (1, 4)
    pair = engine(epochs=1).train([Training(make_pool(20), (MaxUp(), CutMix()))])
    assert np.isfinite(pair[0].curve[0]["train_loss"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**62), st.floats(0, 1), st.integers(1, 12), st.integers(1, 12))
def test_cutout_sets_one_square_to_zero(seed, side, height, width):
    x = torch.ones(6, 2, height, width)
    mixed, targets = MaxUp(change="cutout", side=side).mix(x, torch.eye(6), keyed(seed))
    assert torch.equal(targets, torch.eye(6))
    assert set(mixed.unique().tolist()) <= {0.0, 1.0}
    for image in mixed:
        assert torch.equal(image[0], image[1])
        rows, columns = (image[0] == 0).any(1), (image[0] == 0).any(0)
        assert torch.equal(image[0] == 0, rows[:, None] & columns)
        assert rows.sum() <= count_of(side, height)
        assert columns.sum() <= count_of(side, width)


def test_cutout_has_the_papers_size_and_reaches_every_pixel():
    x = torch.ones(4000, 1, 8, 8)
    mixed, _ = MaxUp(change="cutout").mix(x, torch.zeros(4000, 2), keyed(0))
    assert (mixed == 0).any(0).all()
    assert int((mixed == 0).sum((1, 2, 3)).max()) == 16  # 4 x 4 of 8 x 8: half of each side


def test_noise_has_its_deviation_and_stays_in_range():
    x = torch.full((50, 1, 20, 20), 0.5)
    mixed, _ = MaxUp(sigma=0.05).mix(x, torch.zeros(50, 2), keyed(0))
    assert float((mixed - x).std()) == pytest.approx(0.05, rel=0.03)
    loud, _ = MaxUp(sigma=3.0).mix(x, torch.zeros(50, 2), keyed(0))
    assert (loud.min(), loud.max()) == (0, 1)
    assert torch.equal(x, torch.full((50, 1, 20, 20), 0.5))


def test_a_field_that_would_not_be_read_is_refused():
    with pytest.raises(ValidationError, match="side is read with change: cutout only"):
        MaxUp(side=0.2)
    assert MaxUp().tries == 4
