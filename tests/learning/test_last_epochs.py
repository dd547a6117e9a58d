"""The mean of the last epochs' weights, beside a model that stays what it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.parts.modules import Classifier
from learning.models.small_cnn import SmallCNN
from learning.models.softmax import Softmax
from learning.optimizers.sgd import SGD
from learning.pool import DEFENDER, Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.engine.last_epochs import LastEpochs
from learning.training.engine.memory import Footprint
from learning.training.engine.model_cache import ModelCache
from learning.training.job import Training
from learning.training.spec import ComputeSpec, EarlyStopping, TrainingSpec

SHAPE = (1, 4, 4)


class NormedAndDropped(Architecture):
    """Not batchable: BatchNorm, with its counter, and dropout."""

    kind: str = "normed_and_dropped"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5)
        )
        return Classifier(body, nn.Linear(16, classes))


def block(owner, first, rows, scale=1.0):
    draw = np.random.default_rng(first)
    x = draw.random((rows, *SHAPE), dtype=np.float32) * np.float32(scale)
    return Block(owner, first, x, draw.integers(0, 3, rows))


POOL = Pool((block(DEFENDER, 0, 17), block("a", 20, 9)), 3)


def engine(architecture=None, averaged=0, dtype=torch.float64, known=None, **training: Any):
    compute = training.pop("compute", {})
    spec = TrainingSpec(**{"epochs": 5, "batch_size": 8, "optimizer": SGD(lr=0.3), **training})
    settings = ComputeSpec(**{"device": "cpu", "threads": 1, **compute})
    recipe = Recipe(architecture or Softmax(), SHAPE, 3, spec, settings, 3, averaged)
    return Engine(recipe, dtype=dtype, known=known)


def mean(states):
    """Return the mean of states, and the counters of the last one."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def close(module, expected):
    state = module.state_dict()
    assert state.keys() == expected.keys()
    return all(torch.allclose(state[n], expected[n], rtol=0, atol=1e-14) for n in state)


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("architecture", [Softmax(), SmallCNN(), NormedAndDropped()])
def test_it_is_the_mean_of_the_trainings_that_end_an_epoch_earlier_each(architecture, together):
    compute = {"together": together}
    model = engine(architecture, 3, compute=compute).train([Training(POOL)])[0]
    ends = [
        engine(architecture, compute=compute, epochs=n)
        .train([Training(POOL)])[0]
        .module.state_dict()
        for n in (3, 4, 5)
    ]
    assert close(model.averaged, mean(ends))
    assert not close(model.averaged, ends[-1])
    assert not model.averaged.training
    assert not any(p.requires_grad for p in model.averaged.parameters())


@pytest.mark.parametrize("architecture", [Softmax(), NormedAndDropped()])
def test_the_last_iterate_is_the_same_to_the_bit_and_nothing_is_averaged_unasked(architecture):
    plain = engine(architecture, dtype=torch.float32).train([Training(POOL)])[0]
    beside = engine(architecture, 2, dtype=torch.float32).train([Training(POOL)])[0]
    assert plain.averaged is None
    assert same(plain.module, beside.module)
    assert plain.curve == beside.curve


def test_a_model_has_the_same_mean_whatever_is_trained_beside_it():
    wide = Pool((*POOL.blocks, block("b", 40, 6), block("c", 60, 4)), 3)
    requests = [Training(wide), *(Training(wide.without_owner(name)) for name in "abc")]
    stopping = {"early_stopping": EarlyStopping(patience=2), "validation_share": 0.3, "epochs": 30}
    stopping["optimizer"] = SGD(lr=0.6)
    both = engine(MLP(hidden=(6,)), 3, torch.float32, **stopping).train(requests)
    assert len({model.epochs for model in both}) > 1
    for request, model in zip(requests, both, strict=True):
        alone = engine(MLP(hidden=(6,)), 3, torch.float32, **stopping).train([request])[0]
        assert same(alone.averaged, model.averaged)


def test_early_stopping_averages_the_last_epochs_that_were_trained():
    stopping = EarlyStopping(patience=2)
    settings = {"validation_share": 0.3, "optimizer": SGD(lr=0.9)}
    model = engine(averaged=2, epochs=60, early_stopping=stopping, **settings).train(
        [Training(POOL)]
    )[0]
    assert model.epochs < 60
    ends = [
        engine(epochs=n, **settings).train([Training(POOL)])[0].module.state_dict()
        for n in (model.epochs - 1, model.epochs)
    ]
    assert close(model.averaged, mean(ends))


def test_fewer_epochs_than_asked_for_are_all_averaged():
    model = engine(averaged=50, epochs=1).train([Training(POOL)])[0]
    assert close(model.averaged, model.module.state_dict())


def test_a_training_that_diverges_averages_what_came_before():
    broken = Pool((block(DEFENDER, 0, 17, scale=1e200),), 3)
    x = broken.blocks[0].x  # float32 has no 1e200: infinite inputs
    assert not np.isfinite(x).all()
    model = engine(averaged=3).train([Training(broken)])[0]
    assert model.diverged == 1
    assert all(bool(v.isfinite().all()) for v in model.averaged.state_dict().values())


def test_the_diverged_epoch_is_left_out_of_the_mean():
    last = LastEpochs(3)
    for value in (1.0, 2.0, 2.0):
        last.keep({"w": torch.full((2, 1), value), "n": torch.full((2,), int(value))})
    assert last.mean(0, but_last=True)["w"].item() == 1.5
    assert last.mean(1)["w"].item() == pytest.approx(5 / 3)
    last.keep({"w": torch.tensor([[2.0], [8.0]]), "n": torch.tensor([4, 5])})
    last.take(torch.tensor([1]))
    assert last.mean(0)["w"].item() == 4.0
    assert last.mean(0)["n"].item() == 5
    assert LastEpochs(0).mean(0) == {}


def test_a_cache_keeps_both_forms_apart_and_counts_their_bytes():
    cache = ModelCache()
    first = engine(averaged=2, known=cache).train([Training(POOL)])[0]
    plain = engine(known=cache).train([Training(POOL)])[0]
    assert plain.averaged is None
    assert engine(averaged=2, known=cache).train([Training(POOL)])[0] is first
    small = ModelCache(limit=sum(v.nbytes for v in first.module.state_dict().values()))
    small.put("both", first)
    small.put("one", replace(first, averaged=None))
    assert small.get("both") is None
    assert small.get("one") is not None


def test_what_is_kept_counts_as_memory():
    module = Softmax().build(SHAPE, 3)
    spec = TrainingSpec()
    none, some = (Footprint.of(module, SHAPE, spec, averaged=k).total for k in (0, 5))
    assert some - none == 5 * 4 * sum(p.numel() for p in module.parameters())
