"""Every architecture: a cohort's agents end as each does alone, or the run says why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from found_methods import cases
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

from learning.method import discover
from learning.models.base import Architecture
from learning.optimizers.sgd import SGD
from learning.pool import Block, Pool
from learning.training.batches.order import visiting_order
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training
from learning.training.spec import ComputeSpec, TrainingSpec

KINDS: dict[str, Any] = discover(Architecture, "learning.models")
BATCHABLE = [kind for kind, method in KINDS.items() if method.batchable]
OTHERS = [kind for kind in KINDS if kind not in BATCHABLE]
PUBLISHED = [kind for kind in OTHERS if hasattr(KINDS[kind], "_published")]


class Plain(nn.Module):
    """Four layers with the parts that ours look for in torchvision's VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(16, 8), nn.Dropout(), nn.Linear(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return out


def stand_in(kind: str, **_: object) -> nn.Module:
    """Return a shallow net in place of torchvision's, which have up to 129 million weights."""
    return Plain() if kind.startswith("vgg") else models.ResNet(BasicBlock, [1, 1, 1, 1])


def make_engine(
    architecture: Architecture,
    shape: tuple[int, int, int],
    together: object,
    dtype: torch.dtype = torch.float32,
) -> Engine:
    spec = TrainingSpec(epochs=2, batch_size=8, optimizer=SGD(lr=0.05, momentum=0.9))
    compute = ComputeSpec(device="cpu", threads=1, together=together)
    return Engine(Recipe(architecture, shape, 3, spec, compute, 5), dtype=dtype)


def agents(
    engine: Engine, shape: tuple[int, int, int], sizes: tuple[int, ...], epochs: int
) -> list[Training]:
    """Return the local trainings of a round: each agent with rows, a start and an order."""
    jobs = []
    for rows in sizes:
        draw = np.random.default_rng(rows)
        x = draw.random((rows, *shape), dtype=np.float32)
        pool = Pool((Block(f"a{rows}", 0, x, draw.integers(0, 3, rows)),), 3)
        state = engine.initial().module.state_dict()
        scale = 1 + 0.01 * rows
        own = {k: v * scale if v.is_floating_point() else v for k, v in state.items()}
        jobs.append(
            Training(pool, start=engine.holding(own), epochs=epochs, purpose=f"round/1/{rows}")
        )
    return jobs


def weights(model: Trained) -> list[Tensor]:
    return list(model.module.state_dict().values())


def distance(a: Trained, b: Trained) -> float:
    pairs = zip(weights(a), weights(b), strict=True)
    return max(float((u.double() - v.double()).abs().max()) for u, v in pairs)


def naive(engine: Engine, job: Training) -> list[Tensor]:
    assert job.start is not None
    model = engine.holding(job.start.module.state_dict()).module.train().requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = torch.from_numpy(job.pool.x).double(), torch.from_numpy(job.pool.y)
    for epoch in range(2):
        order = torch.from_numpy(visiting_order(5, job.purpose, epoch, job.pool.ids))
        for batch in order.split(8):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return [p.detach() for p in model.state_dict().values()]


@pytest.mark.parametrize("kind", BATCHABLE)
def test_a_cohort_ends_as_its_members_do_one_by_one(kind):
    shape = (1, 8, 8)
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        engine = make_engine(KINDS[kind](), shape, "auto", dtype)
        jobs = agents(engine, shape, (3, 9, 21), epochs=2)
        together = engine.train(jobs)
        apart = make_engine(KINDS[kind](), shape, False, dtype).train(jobs)
        assert engine.notes == ()
        assert max(map(distance, together, apart)) < limit
        for job, model in zip(jobs, together, strict=True):
            assert job.start is not None
            assert distance(model, job.start) > 1e-3
            if dtype == torch.float64:
                for own, theirs in zip(weights(model), naive(engine, job), strict=True):
                    torch.testing.assert_close(own, theirs, rtol=0, atol=limit)


CASES = cases({kind: KINDS[kind] for kind in OTHERS}, {"timm": ({"name": "resnet10t"},)})


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_what_cannot_be_a_cohort_is_trained_one_by_one_and_the_run_says_so(
    kind, fields, monkeypatch
):
    monkeypatch.setattr(models, "get_model", stand_in)
    shape = (3, 32, 32) if kind.startswith("vgg") else (3, 8, 8)
    engine = make_engine(KINDS[kind](**fields), shape, "auto")
    jobs = agents(engine, shape, (2, 5), epochs=1)
    together = engine.train(jobs)
    assert engine.notes == (f"{kind} models are trained one by one: BatchNorm",)
    silent = make_engine(KINDS[kind](**fields), shape, False)
    apart = [silent.train([job])[0] for job in reversed(jobs)][::-1]
    assert silent.notes == ()
    for job, a, b in zip(jobs, together, apart, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(weights(a), weights(b), strict=True))
        assert a.curve == b.curve
        assert job.start is not None
        assert distance(a, job.start) > 1e-3


def test_all_architectures_are_covered():
    assert {"softmax", "mlp", "small_cnn"} <= set(BATCHABLE)
    assert {"resnet9", "resnet32", "preact_resnet18"} <= set(OTHERS).difference(PUBLISHED)
    assert {"resnet18", "vgg11_bn"} <= set(PUBLISHED)
