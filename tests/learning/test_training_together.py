"""Models trained together are the models trained one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.small_cnn import SmallCNN
from learning.models.softmax import Softmax
from learning.optimizers.adam import Adam
from learning.optimizers.sgd import SGD
from learning.pool import DEFENDER, Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training
from learning.training.spec import ComputeSpec, TrainingSpec

SHAPE = (2, 6, 6)


def make_pool(sizes: tuple[int, ...] = (20, 9, 7, 12), classes: int = 3) -> Pool:
    draw = np.random.default_rng(1)
    blocks, first = [], 0
    for k, n in enumerate(sizes):
        x = draw.random((n, *SHAPE), dtype=np.float32)
        y = draw.integers(0, classes, n)
        blocks.append(Block(DEFENDER if k == 0 else f"a{k}", first, x, y))
        first += n + 3
    return Pool(tuple(blocks), classes)


def leave_one_out(pool: Pool) -> list[Training]:
    return [Training(pool), *(Training(pool.without_owner(o)) for o in pool.owners[1:])]


def train(
    architecture: Architecture, together: bool, dtype: torch.dtype, **training: Any
) -> list[Trained]:
    spec = TrainingSpec(**{"epochs": 2, "batch_size": 8, **training})
    compute = ComputeSpec(device="cpu", together=together, threads=1)
    recipe = Recipe(architecture, SHAPE, 3, spec, compute, seed=5)
    return Engine(recipe, dtype=dtype).train(leave_one_out(make_pool()))


def distance(a: Trained, b: Trained) -> float:
    pairs = zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True)
    return max(float((u - v).abs().max()) for u, v in pairs)


@pytest.mark.parametrize(
    "architecture",
    [
        Softmax(),
        MLP(hidden=(11, 5)),
        SmallCNN(),
        SmallCNN(downsample="average"),
        SmallCNN(downsample="stride"),
        SmallCNN(downsample="none"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(lr=0.1, weight_decay=0.01),
        SGD(lr=0.1, nesterov=True),
        Adam(lr=0.01, eps=1e-3, weight_decay=0.01),
    ],
    ids=str,
)
def test_together_equals_one_by_one(architecture: Architecture, optimizer: SGD | Adam) -> None:
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        together = train(architecture, True, dtype, optimizer=optimizer)
        apart = train(architecture, False, dtype, optimizer=optimizer)
        assert max(map(distance, together, apart)) < limit
        for a, b in zip(together, apart, strict=True):
            assert a.rows == b.rows
            for one, other in zip(a.curve, b.curve, strict=True):
                assert one == pytest.approx(other, rel=1e-4)
        assert distance(together[0], together[1]) > 1e-4
