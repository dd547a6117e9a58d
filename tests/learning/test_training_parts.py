"""The parts of the training engine against torch's own: optimisers, schedules, order, stopping."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from learning.optimizers.adam import Adam
from learning.optimizers.sgd import SGD
from learning.pool import Block, Pool
from learning.schedules.constant import ConstantRate
from learning.schedules.cosine import Cosine
from learning.schedules.milestones import Milestones
from learning.training.batches.augment import change, draw_changes
from learning.training.batches.batches import padded_width
from learning.training.batches.order import batch_sizes, row_keys, validation_mask, visiting_order
from learning.training.batches.rows import RowStore
from learning.training.engine.memory import Footprint
from learning.training.engine.stopping import Stopper
from learning.training.spec import AugmentImages, EarlyStopping, TrainingSpec

OPTIMIZERS = [
    SGD(lr=0.1, momentum=0.0),
    SGD(lr=0.1, momentum=0.9),
    SGD(lr=0.1, momentum=0.9, weight_decay=0.05),
    SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    Adam(lr=0.01),
    Adam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-4, weight_decay=0.1),
]


def torch_optimizer(spec: SGD | Adam, weights: list[torch.Tensor]) -> torch.optim.Optimizer:
    if isinstance(spec, SGD):
        return torch.optim.SGD(
            weights,
            spec.lr,
            momentum=spec.momentum,
            nesterov=spec.nesterov,
            weight_decay=spec.weight_decay,
        )
    return torch.optim.Adam(
        weights,
        spec.lr,
        betas=(spec.beta1, spec.beta2),
        eps=spec.eps,
        weight_decay=spec.weight_decay,
    )


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=str)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_stacked_steps_are_torchs_steps_of_each_model(spec, dtype, limit):
    """Model k has a gradient in the first (3 - k) of every three steps, and stands still else."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5,)]
    stacked = [torch.randn(3, *s, generator=draw, dtype=dtype) for s in shapes]
    apart = [[w[k].clone() for w in stacked] for k in range(3)]
    ours = spec.stacked(stacked)
    theirs = [torch_optimizer(spec, own) for own in apart]
    for step in range(12):
        m = 3 - step % 3
        lr = spec.lr / (1 + step)
        grads = [torch.randn(m, *s, generator=draw, dtype=dtype) for s in shapes]
        ours.step([w[:m] for w in stacked], grads, lr)
        for k in range(m):
            theirs[k].param_groups[0]["lr"] = lr
            for weight, grad in zip(apart[k], grads, strict=True):
                weight.grad = grad[k].clone()
            theirs[k].step()
        for k in range(3):
            for weight, own in zip(stacked, apart[k], strict=True):
                torch.testing.assert_close(weight[k], own, rtol=limit, atol=limit)


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=str)
def test_stacked_steps_go_on_after_models_leave(spec):
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 4, generator=draw)
    own = [weights[2].clone()]
    ours, theirs = spec.stacked([weights]), torch_optimizer(spec, own)
    for step in range(6):
        if step == 3:
            chosen = torch.tensor([2])
            weights = weights.index_select(0, chosen)
            ours.take(chosen)
        grads = torch.randn(len(weights), 4, generator=draw)
        ours.step([weights], [grads], spec.lr)
        own[0].grad = grads[-1].clone()
        theirs.step()
    torch.testing.assert_close(weights[0], own[0])


def test_milestones_and_cosine_are_torchs():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.2)
    ours = Milestones(milestones=(3, 5), factor=0.2)
    for epoch in range(8):
        assert ours.rate(epoch, 8) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1)
    for epoch in range(10):
        factor = Cosine(warmup_epochs=3, final=0.1).rate(epoch + 3, 13)
        assert factor == pytest.approx(cosine.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        cosine.step()


def test_warm_up_climbs_in_equal_steps_and_constant_stays():
    spec = Cosine(warmup_epochs=3)
    assert [spec.rate(e, 10) for e in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert [Cosine(warmup_epochs=9).rate(e, 2) for e in range(2)] == [0.1, 0.2]
    assert ConstantRate().rate(7, 8) == 1.0


def test_an_id_keeps_its_key_whatever_is_beside_it():
    ids = np.array([2, 5, 9, 40], np.int64)
    keys = row_keys(0, "order/", 3, ids)
    assert np.array_equal(row_keys(0, "order/", 3, ids[1:3]), keys[1:3])
    others = [
        row_keys(1, "order/", 3, ids),
        row_keys(0, "x", 3, ids),
        row_keys(0, "order/", 4, ids),
    ]
    assert all(not np.isin(other, keys).any() for other in others)


@given(st.sets(st.integers(0, 400), min_size=2), st.data())
def test_leaving_rows_out_keeps_the_order_of_the_others(chosen, data):
    ids = np.array(sorted(chosen), np.int64)
    left = np.array(sorted(data.draw(st.sets(st.sampled_from(sorted(chosen)), min_size=1))))
    whole, part = ids[visiting_order(7, "", 2, ids)], left[visiting_order(7, "", 2, left)]
    assert part.tolist() == [i for i in whole.tolist() if i in set(left.tolist())]


def test_orders_are_shuffles_that_change_with_the_epoch():
    ids = np.arange(1000, dtype=np.int64)
    first, second = (visiting_order(0, "", epoch, ids) for epoch in (0, 1))
    assert sorted(first) == ids.tolist()
    assert abs(np.corrcoef(first, ids)[0, 1]) < 0.1
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


@given(st.integers(1, 300), st.integers(1, 70), st.booleans())
def test_every_row_is_in_a_batch(rows, batch_size, join_single):
    sizes = batch_sizes(rows, batch_size, join_single=join_single)
    assert sum(sizes) == rows
    assert min(sizes) > 0
    assert max(sizes) <= batch_size + join_single
    assert len(sizes) == math.ceil(rows / batch_size) - (max(sizes) > batch_size)
    if join_single and rows > 1 and batch_size > 1:
        assert min(sizes) > 1
    assert max(sizes) <= padded_width(rows, batch_size) + join_single


def test_validation_rows_are_drawn_by_id():
    ids = np.arange(2000, dtype=np.int64)
    held = validation_mask(0, 0.25, ids)
    assert 0.2 < held.mean() < 0.3
    assert np.array_equal(validation_mask(0, 0.25, ids[500:]), held[500:])
    assert not validation_mask(0, 0.0, ids).any()
    for share in (1e-9, 1 - 1e-9):
        assert 0 < validation_mask(0, share, ids[:5]).sum() < 5
    with pytest.raises(ValueError, match="at least 2 rows"):
        validation_mask(0, 0.5, ids[:1])


def test_stopper_waits_for_patience_and_the_least_epochs():
    stopper = Stopper(EarlyStopping(patience=2, min_delta=0.1, min_epochs=6))
    losses = [1.0, 0.5, 0.45, 0.41, 0.5, 0.6]
    better = [stopper.improved(e, {"validation_loss": v}) for e, v in enumerate(losses, 1)]
    assert better == [True, True, False, False, False, False]
    assert stopper.best_epoch == 2
    assert [stopper.exhausted(e) for e in (3, 4, 5, 6)] == [False, False, False, True]
    rising = Stopper(EarlyStopping(monitor="validation_accuracy", patience=1))
    assert rising.improved(1, {"validation_accuracy": 0.5})
    assert rising.improved(2, {"validation_accuracy": 0.6})
    assert not rising.improved(3, {"validation_accuracy": 0.6})
    assert rising.exhausted(3)


def test_changes_are_crops_and_flips_drawn_by_id():
    spec = AugmentImages(crop_padding=2, horizontal_flip=True)
    ids = np.arange(400, dtype=np.int64)
    drawn = draw_changes(spec, 0, "", 1, ids)
    assert np.array_equal(draw_changes(spec, 0, "", 1, ids[100:]), drawn[100:])
    assert [sorted(set(column)) for column in drawn.T] == [[*range(5)], [*range(5)], [0, 1]]
    x = torch.rand(400, 3, 6, 5)
    out = change(x, torch.from_numpy(drawn), spec)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    for row, (down, right, flip) in enumerate(drawn.tolist()):
        crop = padded[row, :, down : down + 6, right : right + 5]
        assert torch.equal(out[row], crop.flip(-1) if flip else crop)


def make_block(owner: str, first_id: int, rows: int, seed: int) -> Block:
    draw = np.random.default_rng(seed)
    x = draw.random((rows, 1, 2, 2), dtype=np.float32)
    return Block(owner, first_id, x, draw.integers(0, 3, rows))


def test_store_gives_each_pool_its_rows_and_keeps_equal_blocks_once():
    blocks = [make_block(name, 10 * k, 6, k) for k, name in enumerate("abc")]
    pool = Pool(tuple(blocks), 3).without_rows([0, 21])
    store = RowStore((1, 2, 2), torch.device("cpu"), torch.float32)
    again = Pool((make_block("a", 0, 6, 0), blocks[2]), 3)
    for asked in (pool, pool.without_owner("b"), again):
        rows = store.add(asked)
        x, y = store.batch(torch.from_numpy(rows.at))
        assert np.array_equal(rows.ids, asked.ids)
        assert np.array_equal(x.numpy(), asked.x)
        assert np.array_equal(y.numpy(), asked.y)
    assert len(store) == 18
    other = pool.with_block(make_block("a", 0, 6, 9))
    store.add(other)
    assert len(store) == 24
    assert store.key(pool) != store.key(other)
    assert store.key(pool.without_rows([1, 2, 3, 4, 5])) == store.key(pool.without_owner("a"))
    assert store.key(pool.without_rows([1])) != store.key(pool)


def test_footprint_counts_weights_and_outputs():
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(100, 2)
    )
    outputs, weights = [100, 100, 100, 2], 4 * 9 + 4 + 200 + 2
    found = Footprint.of(module, (1, 5, 5), TrainingSpec(batch_size=9, optimizer=Adam()))
    assert found == Footprint(4 * (6 * weights + 3 * 10 * sum(outputs)), 4 * 10 * 100)
    assert found.fit(found.total * 7.5 / 2**30, torch.device("cuda")) == 7
    assert found.fit(1e-9, torch.device("cpu")) == 1
