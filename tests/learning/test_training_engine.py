"""The training engine: against a plain torch loop, and in what it promises to those who ask."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.parts.modules import Classifier
from learning.models.small_cnn import SmallCNN
from learning.models.softmax import Softmax
from learning.optimizers.adam import Adam
from learning.optimizers.sgd import SGD
from learning.pool import DEFENDER, Block, Pool
from learning.schedules.cosine import Cosine
from learning.seeds import torch_generator
from learning.training.batches.order import visiting_order
from learning.training.engine.engine import Engine, EpochEvent, Recipe, pick_device
from learning.training.job import BatchHook, Trained, Training
from learning.training.spec import AugmentImages, ComputeSpec, EarlyStopping, TrainingSpec

SHAPE = (1, 4, 4)


class Normed(Architecture):
    """Not batchable: BatchNorm and dropout."""

    kind: Literal["normed"] = "normed"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5)
        )
        return Classifier(body, nn.Linear(16, classes))


class Grouped(Architecture):
    """Batchable, with a layer that has no stacked form of its own."""

    kind: Literal["grouped"] = "grouped"
    batchable: ClassVar[bool] = True

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        body = nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.GroupNorm(2, 4), nn.Flatten())
        return Classifier(body, nn.Linear(16, classes))


class Tied(Architecture):
    """One weight of two names, and a frozen bias."""

    kind: Literal["tied"] = "tied"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        first, second = nn.Linear(16, 16), nn.Linear(16, 16)
        second.weight = first.weight
        second.bias.requires_grad_(False)
        return Classifier(
            nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), nn.Linear(16, classes)
        )


class TiedTogether(Tied):
    """The same, which says wrongly that many can be trained as one."""

    kind: Literal["tied_together"] = "tied_together"  # type: ignore[assignment]
    batchable: ClassVar[bool] = True


class Swap(BatchHook):
    """Mixes each row with another one, drawn from the generator it is given."""

    kind: Literal["swap"] = "swap"
    share: float = 0.3

    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        assert targets.dtype == x.dtype
        assert targets.shape == (len(x), 3)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(x), dtype=x.dtype))
        other = torch.randperm(len(x), generator=generator)
        mixed = ((1 - self.share) * v + self.share * v[other] for v in (x, targets))
        return next(mixed), next(mixed)


def make_block(owner: str, first_id: int, rows: int, scale: float = 1.0) -> Block:
    draw = np.random.default_rng(first_id)
    x = draw.random((rows, *SHAPE), dtype=np.float32) * np.float32(scale)
    return Block(owner, first_id, x, draw.integers(0, 3, rows))


def make_pool(*sizes: int) -> Pool:
    firsts = np.cumsum([0, *(n + 2 for n in sizes)]).tolist()
    names = [DEFENDER, *(f"a{k}" for k in range(1, len(sizes)))]
    blocks = [make_block(o, f, n) for o, f, n in zip(names, firsts, sizes, strict=False)]
    return Pool(tuple(blocks), 3)


POOL = make_pool(17, 6, 9, 4)


def make_engine(
    architecture: Architecture | None = None,
    *,
    seed: int = 3,
    dtype: torch.dtype = torch.float32,
    compute: dict[str, Any] | None = None,
    events: list[EpochEvent] | None = None,
    **training: Any,
) -> Engine:
    spec = TrainingSpec(**{"epochs": 2, "batch_size": 8, **training})
    settings = ComputeSpec(**{"device": "cpu", "threads": 1, **(compute or {})})
    recipe = Recipe(architecture or MLP(hidden=(6,)), SHAPE, 3, spec, settings, seed)
    return Engine(recipe, events.append if events is not None else None, dtype=dtype)


def leave_one_out(pool: Pool = POOL, **more: Any) -> list[Training]:
    pools = [pool, *(pool.without_owner(o) for o in pool.owners[1:])]
    return [Training(p, **more) for p in pools]


def weights(model: Trained) -> list[Tensor]:
    return list(model.module.state_dict().values())


def distance(a: Trained, b: Trained) -> float:
    return max(float((u - v).abs().max()) for u, v in zip(weights(a), weights(b), strict=True))


def equal(a: Trained, b: Trained) -> bool:
    return all(torch.equal(u, v) for u, v in zip(weights(a), weights(b), strict=True))


def plain_loop(architecture: Architecture, pool: Pool, spec: TrainingSpec, seed: int) -> nn.Module:
    """Train as any torch tutorial does, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(torch_generator(seed, "init").get_state())
        model = architecture.build(SHAPE, 3).double()
    assert isinstance(spec.optimizer, Adam)
    optimizer = torch.optim.Adam(model.parameters(), spec.optimizer.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.epochs)
    x, y = torch.from_numpy(pool.x).double(), torch.from_numpy(pool.y)
    for epoch in range(spec.epochs):
        order = torch.from_numpy(visiting_order(seed, "", epoch, pool.ids))
        for batch in order.split(spec.batch_size):
            loss = F.cross_entropy(model(x[batch]), y[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model


@pytest.mark.parametrize("architecture", [SmallCNN(), MLP(hidden=(6, 5)), Softmax(), Grouped()])
@pytest.mark.parametrize("together", [True, False])
def test_engine_equals_a_plain_torch_loop(architecture, together):
    settings: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 8,
        "optimizer": Adam(lr=0.01, weight_decay=0.01),
        "schedule": Cosine(),
        "label_smoothing": 0.1,
    }
    requests = leave_one_out()
    engine = make_engine(
        architecture, dtype=torch.float64, compute={"together": together}, **settings
    )
    for request, trained in zip(requests, engine.train(requests), strict=True):
        oracle = plain_loop(architecture, request.pool, TrainingSpec(**settings), seed=3)
        assert trained.module.state_dict().keys() == oracle.state_dict().keys()
        for own, theirs in zip(weights(trained), oracle.state_dict().values(), strict=True):
            torch.testing.assert_close(own, theirs, rtol=0, atol=1e-10)
        assert trained.rows == len(request.pool)
        assert not trained.module.training
        assert not any(p.requires_grad for p in trained.module.parameters())


@pytest.mark.parametrize("architecture", [SmallCNN(), MLP(hidden=(6,)), Normed()])
def test_equal_seeds_give_equal_models_and_equal_epochs(architecture):
    runs = []
    for seed in (3, 3, 4):
        events: list[EpochEvent] = []
        engine = make_engine(architecture, seed=seed, events=events)
        runs.append((engine.train(leave_one_out()), events))
    (first, told), (second, again), (other, _) = runs
    assert told == again
    assert [m.curve for m in first] == [m.curve for m in second]
    assert all(map(equal, first, second))
    assert not any(map(equal, first, other))


@pytest.mark.parametrize("architecture", [SmallCNN(), MLP(hidden=(6,)), Softmax()])
def test_a_model_has_the_same_bits_whatever_is_trained_beside_it(architecture):
    pool = make_pool(70, *[3 + k % 4 for k in range(18)])
    requests = leave_one_out(pool)
    spec: dict[str, Any] = {"batch_size": 16, "validation_share": 0.2}
    crowd = make_engine(architecture, **spec).train(requests)
    for some in ([0], [5], [4, 9], [1, 2, 3, 18]):
        few = make_engine(architecture, **spec).train([requests[k] for k in some])
        assert [k for k, model in zip(some, few, strict=True) if not equal(crowd[k], model)] == []
    split = make_engine(architecture, compute={"memory_gib": 1e-3, "threads": 2}, **spec)
    assert all(map(equal, crowd, split.train(requests)))


def test_equal_trainings_are_done_once():
    engine = make_engine()
    copied = Pool(tuple(make_block(b.owner, b.first_id, len(b.y)) for b in POOL.blocks), 3)
    emptied = POOL.without_rows(POOL.block("a1").ids)
    first = engine.train([Training(POOL), Training(copied), Training(POOL.without_owner("a1"))])
    assert engine.trainings == 2
    assert first[0] is first[1]
    later = engine.train([Training(emptied), Training(POOL), Training(POOL, epochs=2)])
    assert engine.trainings == 2
    assert [id(m) for m in later] == [id(first[2]), id(first[0]), id(first[0])]


def test_trainings_that_differ_in_anything_are_done_apart():
    engine = make_engine()
    base = engine.train([Training(POOL)])[0]
    others = engine.train(
        [
            Training(POOL.without_rows([0])),
            Training(POOL, epochs=1),
            Training(POOL, purpose="bag"),
            Training(POOL, hooks=(Swap(),)),
            Training(POOL, hooks=(Swap(share=0.4),)),
            Training(POOL, start=base),
        ]
    )
    assert engine.trainings == 7
    models = [base, *others]
    assert not any(equal(a, b) for i, a in enumerate(models) for b in models[:i])
    assert [m.epochs for m in models] == [2, 2, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("together", [True, False])
def test_a_training_starts_where_it_is_told(together):
    engine = make_engine(optimizer=SGD(lr=1e-30), compute={"together": together})
    start = make_engine(seed=8).train([Training(POOL)])[0]
    fresh, *models = engine.train([Training(POOL), *leave_one_out(start=start, epochs=1)])
    assert all(equal(model, start) for model in models)
    assert not equal(fresh, start)


@pytest.mark.parametrize("architecture", [SmallCNN(), MLP(hidden=(6,))])
@pytest.mark.parametrize("augment", [AugmentImages(), AugmentImages(crop_padding=1)])
def test_hooks_and_augmentation_do_not_depend_on_company(architecture, augment):
    requests = leave_one_out(hooks=(Swap(), Swap(share=0.1)))
    models = [
        make_engine(architecture, augment=augment, compute={"together": together}).train(requests)
        for together in (True, False)
    ]
    assert max(map(distance, *models)) < 1e-5
    plain = make_engine(architecture, augment=augment).train(leave_one_out())
    assert min(map(distance, models[0], plain)) > 1e-4


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("monitor", ["validation_loss", "validation_accuracy", "train_loss"])
def test_early_stopping_ends_each_model_at_its_own_best_epoch(together, monitor):
    settings: dict[str, Any] = {
        "optimizer": SGD(lr=0.6),
        "validation_share": 0.3,
        "compute": {"together": together},
    }
    stopping = EarlyStopping(monitor=monitor, patience=2)
    models = make_engine(**settings, epochs=40, early_stopping=stopping).train(leave_one_out())
    sign = -1 if monitor == "validation_accuracy" else 1
    for request, model in zip(leave_one_out(), models, strict=True):
        costs = [sign * epoch[monitor] for epoch in model.curve]
        best = int(np.argmin(costs)) + 1
        assert model.epochs == len(costs) == min(40, best + 2)
        shorter = make_engine(**settings, epochs=best).train([request])[0]
        assert distance(shorter, model) < 1e-5
        assert shorter.curve[-1] == pytest.approx(model.curve[best - 1], abs=1e-5)
    assert len({model.epochs for model in models}) > 1


def test_last_weights_are_kept_where_the_best_are_not_asked_for():
    stopping = EarlyStopping(patience=2, restore_best=False)
    spec: dict[str, Any] = {"optimizer": SGD(lr=0.6), "validation_share": 0.3}
    model = make_engine(epochs=40, early_stopping=stopping, **spec).train([Training(POOL)])[0]
    assert model.epochs < 40
    assert equal(model, make_engine(epochs=model.epochs, **spec).train([Training(POOL)])[0])


@pytest.mark.parametrize("together", [True, False])
def test_a_training_that_diverges_stops_alone(together):
    broken = POOL.with_block(make_block("a2", POOL.block("a2").first_id, 9, scale=1e38))
    events: list[EpochEvent] = []
    engine = make_engine(optimizer=SGD(lr=0.5), compute={"together": together}, events=events)
    models = engine.train([Training(broken), Training(broken.without_owner("a2"))])
    alone = make_engine(optimizer=SGD(lr=0.5), compute={"together": together})
    assert equal(models[1], alone.train([Training(POOL.without_owner("a2"))])[0])
    assert models[0].epochs == 0
    assert all(bool(w.isfinite().all()) for w in weights(models[0]))
    untouched = make_engine(optimizer=SGD(lr=1e-30)).train([Training(POOL)])[0]
    assert equal(models[0], untouched)
    assert [note for note in engine.notes if "diverged in epoch 1" in note]
    assert not alone.notes
    losses = [e.train_loss for e in events]
    assert np.isnan(losses).tolist() == ([False, False] if together else [True, False, False])


@pytest.mark.parametrize("architecture", [Normed(), SmallCNN()])
@pytest.mark.parametrize("together", ["auto", False])
def test_a_last_batch_of_one_row_is_trained_on(architecture, together):
    pool = make_pool(17)
    events: list[EpochEvent] = []
    engine = make_engine(architecture, compute={"together": together}, events=events)
    model = engine.train([Training(pool)])[0]
    assert model.rows == 17
    last = pool.ids[visiting_order(3, "", 0, pool.ids)[-1]]
    other = engine.train([Training(pool.without_rows([int(last)]))])[0]
    assert distance(model, other) > 1e-6


def test_batchnorm_refuses_single_rows_in_one_line():
    for pool, spec in ((make_pool(1), {}), (POOL, {"batch_size": 1})):
        with pytest.raises(ValueError, match=r"^BatchNorm needs batches of at least 2 rows, got"):
            make_engine(Normed(), **spec).train([Training(pool)])
    assert make_engine(batch_size=1).train([Training(make_pool(1))])[0].rows == 1


def test_pools_that_cannot_be_trained_on_are_refused_before_any_training():
    events: list[EpochEvent] = []
    engine = make_engine(events=events)
    wide = Block("w", 0, np.zeros((2, 1, 4, 5), np.float32), np.zeros(2, np.int64))
    for bad, message in (
        (POOL.only_owners([]), "empty pool"),
        (POOL.without_rows(POOL.ids), "empty pool"),
        (Pool(POOL.blocks, 4), "3 classes, got 4"),
        (Pool((wide,), 3), "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.train([Training(POOL), Training(bad)])
    assert engine.train([]) == []
    assert engine.trainings == 0
    assert not events


def test_early_stopping_without_validation_rows_is_refused():
    with pytest.raises(ValueError, match="validation_share"):
        make_engine(early_stopping=EarlyStopping())


def test_missing_device_is_one_clear_line():
    assert pick_device("auto").type in {"cpu", "cuda"}
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"^compute\.device: [^\n]*'cuda:99'[^\n]*$"):
        pick_device("cuda:99")


@pytest.mark.parametrize("architecture", [Normed(), SmallCNN()])
def test_nothing_global_is_left_changed(architecture):
    before = torch.random.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    make_engine(architecture, compute={"threads": 2}).train(leave_one_out(hooks=(Swap(),)))
    after = torch.random.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_what_cannot_be_trained_together_is_noted_once():
    engine = make_engine(Normed())
    engine.train(leave_one_out())
    assert engine.notes == ("normed models are trained one by one: BatchNorm",)
    assert make_engine(Normed(), compute={"together": False}).notes == ()


def test_events_add_up():
    events: list[EpochEvent] = []
    engine = make_engine(SmallCNN(), events=events, compute={"memory_gib": 1e-3})
    engine.train(leave_one_out())
    assert [e.share for e in events] == sorted(e.share for e in events)
    assert events[-1].share == 1.0
    assert {e.asked for e in events} == {4}
    assert {e.epoch for e in events} == {1, 2}
    assert sum(e.models for e in events) == 4 * 2


@pytest.mark.parametrize("architecture", [SmallCNN(), Normed()])
@pytest.mark.parametrize("switch", ["bfloat16", "channels_last"])
def test_compute_switches_leave_the_game_as_it_is(architecture, switch):
    requests = leave_one_out()
    plain = make_engine(architecture).train(requests)
    switched = make_engine(architecture, compute={switch: True}).train(requests)
    limit = 2e-2 if switch == "bfloat16" else 1e-5
    assert max(map(distance, plain, switched)) < limit
    assert all(w.dtype != torch.bfloat16 for m in switched for w in weights(m))
    if switch == "bfloat16":
        assert not any(map(equal, plain, switched))


@pytest.mark.parametrize("architecture", [SmallCNN(), Normed()])
def test_compile_is_asked_of_torch(architecture, monkeypatch):
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f) or f)
    models = make_engine(architecture, compute={"compile": True}).train(leave_one_out())
    assert compiled
    assert all(map(equal, models, make_engine(architecture).train(leave_one_out())))


def test_small_cnn_learns_digits():
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order, None] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int64)
    recipe = Recipe(
        SmallCNN(), (1, 8, 8), 10, TrainingSpec(), ComputeSpec(device="cpu", threads=1), 0
    )
    pool = Pool((Block(DEFENDER, 0, x[:1400], y[:1400]),), 10)
    model = Engine(recipe).train([Training(pool)])[0]
    right = model.module(torch.from_numpy(x[1400:])).argmax(1).numpy() == y[1400:]
    assert right.mean() > 0.97
    assert model.curve[-1]["train_accuracy"] > 0.99
    assert model.curve[-1]["train_loss"] < 0.05


def test_tied_weights_stay_tied_in_training_and_frozen_ones_stay_as_they_are():
    engine = make_engine(Tied())
    before = engine.untrained.state_dict()
    after = engine.train([Training(POOL)])[0].module.state_dict()
    assert torch.equal(after["body.1.weight"], after["body.3.weight"])
    assert not torch.equal(after["body.1.weight"], before["body.1.weight"])
    assert torch.equal(after["body.3.bias"], before["body.3.bias"])
    assert not torch.equal(after["body.1.bias"], before["body.1.bias"])


def test_a_batchable_architecture_with_tied_weights_is_refused_in_one_line():
    with pytest.raises(ValueError, match="tied_together to have no tied weights, got some: set"):
        make_engine(TiedTogether())
