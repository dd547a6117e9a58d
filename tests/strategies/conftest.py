"""A learner with a closed form, which plays the defences' generators without the engine.

Random features and ridge regression: exact, the same for every order of the rows, and able to
continue a model (the sums over rows are additive), so that "trained in steps" can be compared with
"trained at once".
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from strategies.base import Defender

SHAPE, CLASSES, WIDTH = (1, 4, 4), 3, 24


class Ridge(nn.Module):
    def __init__(self, x, y, start=None, classes=CLASSES):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        pixels = int(np.prod(x.shape[1:]))
        self.first = torch.randn(pixels, WIDTH, generator=generator, dtype=torch.float64)
        z = self.features(torch.from_numpy(x)).double()
        self.gram = z.T @ z + (start.gram if start else 1e-3 * torch.eye(WIDTH).double())
        self.moment = z.T @ torch.eye(classes).double()[torch.from_numpy(y)]
        self.moment += start.moment if start else 0
        self.head = torch.linalg.solve(self.gram, self.moment)

    def features(self, x):
        return torch.relu(x.double().flatten(1) @ self.first).float()

    def forward(self, x):
        return (self.features(x).double() @ self.head).float()


@dataclass
class Player:
    """Plays generators; remembers what was asked."""

    jobs: list = field(default_factory=list)
    requests: int = 0

    def train(self, job):
        start = job.start.module if job.start else None
        module = Ridge(job.pool.x, job.pool.y, start, job.pool.classes)
        return Trained(module.eval(), (), len(job.pool), job.epochs or 10, 0.0)

    def __call__(self, steps):
        try:
            asked = next(steps)
            while True:
                self.requests += 1
                self.jobs += asked
                asked = steps.send([self.train(job) for job in asked])
        except StopIteration as end:
            return end.value


@pytest.fixture
def play():
    return Player()


@pytest.fixture
def defender():
    return make_defender()


def make_defender(seed=0, agents=("ada", "bob", "cyd", "dan", "eve")):
    return Defender(seed=seed, shape=SHAPE, classes=CLASSES, agents=agents, epochs=10)


def make_pool(rows=None, seed=0):
    """Rows of three classes, told apart by bright pixels, from the defender and five agents."""
    rows = rows or {DEFENDER: 40, "ada": 12, "bob": 12, "cyd": 12, "dan": 12, "eve": 12}
    draws = np.random.default_rng(seed)
    blocks, first = [], 0
    for owner, count in rows.items():
        y = draws.integers(0, CLASSES, count)
        x = draws.random((count, *SHAPE), dtype=np.float32) * 0.4
        x[np.arange(count), 0, y, y] += 0.5
        x.flags.writeable = False
        y.flags.writeable = False
        blocks.append(Block(owner, first, x, y.astype(np.int64)))
        first += count + 3  # ids need not be without gaps
    return Pool(tuple(blocks), CLASSES)


@pytest.fixture
def pool():
    return make_pool()


@pytest.fixture
def build():
    """The makers, for tests that need more than one pool or defender."""

    class Build:
        pool = staticmethod(make_pool)
        defender = staticmethod(make_defender)
        shape, classes = SHAPE, CLASSES

    return Build
