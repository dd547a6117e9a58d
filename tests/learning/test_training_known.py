"""A model's bits do not depend on what it is trained with, so that games may share models."""

import numpy as np
import pytest
import torch

from learning.models.mlp import MLP
from learning.models.small_cnn import SmallCNN
from learning.pool import Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.engine.model_cache import ModelCache
from learning.training.job import Training
from learning.training.spec import ComputeSpec, TrainingSpec


def recipe(architecture, seed=3, epochs=2):
    training = TrainingSpec(epochs=epochs, batch_size=16)
    return Recipe(architecture, (1, 8, 8), 3, training, ComputeSpec(device="cpu"), seed)


def pool(draw, rows=50):
    random = np.random.Generator(np.random.Philox(draw))
    x = random.random((rows, 1, 8, 8), dtype=np.float32)
    return Pool((Block("a", 0, x, random.integers(0, 3, rows)),), 3)


def weights(model):
    return torch.cat([value.flatten() for value in model.module.state_dict().values()])


@pytest.mark.parametrize("architecture", [SmallCNN(), MLP()], ids=lambda a: a.kind)
@pytest.mark.parametrize("others", [0, 1, 4, 17])
def test_bits_do_not_depend_on_the_group(architecture, others):
    own = Training(pool(0))
    company = [Training(pool(1 + k, 50 - 9 * (k % 2))) for k in range(others)]
    (alone,) = Engine(recipe(architecture)).train([own])
    together = Engine(recipe(architecture)).train([*company, own])[-1]
    assert torch.equal(weights(alone), weights(together))


def test_a_known_model_is_taken_over_and_counted():
    known = ModelCache()
    first = Engine(recipe(MLP()), known=known)
    (model,) = first.train([Training(pool(0))])
    second = Engine(recipe(MLP()), known=known)
    assert second.train([Training(pool(0))])[0] is model
    assert (first.trainings, second.trainings) == (1, 1)
    assert second.train([Training(pool(1))])[0] is not model
    assert second.trainings == 2


@pytest.mark.parametrize("other", [recipe(MLP(), seed=4), recipe(MLP(), epochs=3)])
def test_another_recipe_is_another_model(other):
    known = ModelCache()
    (model,) = Engine(recipe(MLP()), known=known).train([Training(pool(0))])
    (apart,) = Engine(other, known=known).train([Training(pool(0))])
    assert apart is not model


def test_what_goes_on_from_a_model_of_its_own_game_is_not_shared():
    known = ModelCache()
    engines = [Engine(recipe(MLP()), known=known) for _ in range(2)]
    models = [engine.train([Training(pool(1), start=engine.initial())])[0] for engine in engines]
    assert models[0] is not models[1]
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_the_longest_unused_models_go_first():
    (model,) = Engine(recipe(MLP())).train([Training(pool(0))])
    size = sum(value.nbytes for value in model.module.state_dict().values())
    known = ModelCache(limit=2 * size)
    for key in "ab":
        known.put(key, model)
    assert known.get("a") is model
    known.put("c", model)
    assert known.get("b") is None
    assert known.get("a") is known.get("c") is model
    ModelCache(limit=size - 1).put("a", model)
