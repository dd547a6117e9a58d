"""Steered trainings: FedProx's pull, the ball, frozen coordinates, the gradient's gain."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.parts.modules import Classifier
from learning.models.small_cnn import SmallCNN
from learning.models.softmax import Softmax
from learning.optimizers.adam import Adam
from learning.optimizers.sgd import SGD
from learning.pool import Block, Pool
from learning.training.batches.order import batch_sizes, visiting_order
from learning.training.constraint import StackedSteering
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training, UpdateConstraint
from learning.training.spec import ComputeSpec, EarlyStopping, TrainingSpec
from learning.weights import WeightLayout

SHAPE = (1, 4, 4)
SIZES = (5, 8, 21, 33, 12)
SMALL = MLP(hidden=(6,))


class Normed(Architecture):
    """Not batchable."""

    kind: Literal["steered_normed"] = "steered_normed"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        body = nn.Sequential(nn.Conv2d(shape[0], 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
        return Classifier(body, nn.Linear(16, classes))


def make_pool(rows: int) -> Pool:
    draw = np.random.default_rng(rows)
    x = draw.random((rows, *SHAPE), dtype=np.float32)
    return Pool((Block(f"a{rows}", 0, x, draw.integers(0, 3, rows)),), 3)


def make_engine(
    architecture: Architecture = SMALL,
    *,
    dtype: torch.dtype = torch.float32,
    together: bool = True,
    **training: Any,
) -> Engine:
    spec = TrainingSpec(**{"epochs": 3, "batch_size": 8, "optimizer": SGD(lr=0.1), **training})
    compute = ComputeSpec(device="cpu", threads=1, together=together)
    return Engine(Recipe(architecture, SHAPE, 3, spec, compute, 3), dtype=dtype)


def jobs(engine: Engine, steerings: list[UpdateConstraint | None], **more: Any) -> list[Training]:
    return [
        Training(make_pool(n), purpose=f"p{n}", start=start(engine, n), steering=s, **more)
        for n, s in zip(SIZES, steerings, strict=False)
    ]


def start(engine: Engine, seed: int) -> Trained:
    """Return a start of the job's own."""
    draw = torch.Generator().manual_seed(seed)
    state = engine.initial().module.state_dict()
    return engine.holding({k: v + 0.1 * _noise(v, draw) for k, v in state.items()})


def _noise(like: Tensor, draw: torch.Generator) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros_like(like)
    return torch.rand(like.shape, generator=draw, dtype=torch.float64).to(like.dtype)


def flat(model: Trained) -> Tensor:
    return WeightLayout(model.module).flat(model.module.state_dict())


def way(job: Training, model: Trained) -> Tensor:
    assert job.start is not None
    return flat(model).double() - flat(job.start).double()


def free_half(engine: Engine, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(len(flat(engine.initial())), generator=draw) < 0.5


def plain_loop(engine: Engine, job: Training) -> Tensor:
    """Train with the proximal term in the loss and the projection in words, in float64."""
    assert job.start is not None
    assert job.steering is not None
    s, spec = job.steering, engine.recipe.training
    model = engine.holding(job.start.module.state_dict()).module.train().requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    if isinstance(spec.optimizer, Adam):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    origin = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    x, y = torch.from_numpy(job.pool.x).double(), torch.from_numpy(job.pool.y)

    def project() -> None:
        gap = nn.utils.parameters_to_vector(model.parameters()).detach() - origin
        if s.radius is not None and gap.norm() > s.radius:
            gap *= s.radius / gap.norm()
            nn.utils.vector_to_parameters(origin + gap, model.parameters())

    for epoch in range(spec.epochs):
        order = torch.from_numpy(visiting_order(3, job.purpose, epoch, job.pool.ids))
        sizes = batch_sizes(
            len(order), 8, join_single=isinstance(engine.recipe.architecture, Normed)
        )
        for batch in order.split(sizes):
            gap = nn.utils.parameters_to_vector(model.parameters()) - origin
            loss = s.gain * F.cross_entropy(model(x[batch]), y[batch])
            loss = loss + s.pull / 2 * gap.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if s.free is not None:
                now = nn.utils.parameters_to_vector(model.parameters()).detach()
                held = torch.where(s.free, now, origin)
                nn.utils.vector_to_parameters(held, model.parameters())
            if s.project == "step":
                project()
        if s.project == "epoch":
            project()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("architecture", [SMALL, SmallCNN(), Normed()])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, weight_decay=0.01), Adam(lr=0.01)])
def test_steered_trainings_equal_a_plain_torch_loop(architecture, together, optimizer):
    engine = make_engine(architecture, dtype=torch.float64, together=together, optimizer=optimizer)
    half = free_half(engine)
    steerings: list[UpdateConstraint | None] = [
        UpdateConstraint(pull=0.5),
        UpdateConstraint(gain=0.3, pull=2.0),
        UpdateConstraint(radius=0.05),
        UpdateConstraint(radius=0.07, project="epoch", gain=0.5),
        UpdateConstraint(pull=0.1, free=half, radius=0.1),
    ]
    asked = jobs(engine, steerings)
    for job, model in zip(asked, engine.train(asked), strict=True):
        oracle = plain_loop(engine, job)
        torch.testing.assert_close(flat(model), oracle, rtol=0, atol=1e-10)
        assert len(model.curve) == 3


@pytest.mark.parametrize("architecture", [SMALL, SmallCNN(), Softmax()])
@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 9}])
@pytest.mark.parametrize(
    "optimizer", [SGD(lr=0.5, weight_decay=0.1, nesterov=True), Adam(lr=0.1, weight_decay=0.1)]
)
def test_steered_models_have_the_same_bits_in_any_company(architecture, length, optimizer):
    spec: dict[str, Any] = {"optimizer": optimizer}
    engine = make_engine(architecture, **spec)
    some: list[list[UpdateConstraint | None]] = [
        [UpdateConstraint(pull=0.1 * k) for k in range(1, 6)],
        [UpdateConstraint(radius=0.1 * k) for k in range(1, 6)],
        [UpdateConstraint(radius=0.1 * k, project="epoch") for k in range(1, 6)],
        [
            UpdateConstraint(pull=0.2 * k, free=free_half(engine, k), radius=0.4 * k)
            for k in range(1, 6)
        ],
        [
            None,
            UpdateConstraint(),
            UpdateConstraint(pull=1.0),
            UpdateConstraint(radius=0.1),
            UpdateConstraint(gain=0.5),
        ],
    ]
    for steerings in some:
        asked = jobs(engine, steerings, **length)
        crowd = engine.train(asked)
        for chosen in ([0], [4], [1, 3]):
            few = make_engine(architecture, **spec).train([asked[k] for k in chosen])
            for k, model in zip(chosen, few, strict=True):
                assert torch.equal(flat(crowd[k]), flat(model))
    plain = make_engine(architecture, **spec).train(jobs(engine, [None, None], **length))
    assert [torch.equal(flat(a), flat(b)) for a, b in zip(plain, crowd, strict=False)] == [True] * 2


@pytest.mark.parametrize("radius", [1e-7, 1e-4, 0.01, 1.0])
def test_no_step_leaves_the_ball(radius):
    engine = make_engine(SmallCNN(), optimizer=SGD(lr=1.0))
    for steps in (1, 2, 5):
        asked = jobs(
            engine, [UpdateConstraint(radius=radius * (k + 1)) for k in range(5)], steps=steps
        )
        for k, (job, model) in enumerate(zip(asked, engine.train(asked), strict=True)):
            norm = float(way(job, model).norm())
            assert norm <= radius * (k + 1) * (1 + 1e-6)
            if steps == 5 and 1e-4 < radius < 1:  # it is the ball that stops them
                assert norm == pytest.approx(radius * (k + 1), rel=1e-3)


def test_projection_after_epochs_lets_steps_go_further():
    engine = make_engine(optimizer=SGD(lr=0.5), dtype=torch.float64)
    by_step, by_epoch = (
        engine.train(jobs(engine, [UpdateConstraint(radius=0.2, project=p)] * 5, epochs=2))
        for p in ("step", "epoch")
    )
    for job, a, b in zip(jobs(engine, [None] * 5), by_step, by_epoch, strict=True):
        assert float(way(job, a).norm()) <= 0.2 + 1e-12
        assert float(way(job, b).norm()) <= 0.2 + 1e-12
    assert not any(
        torch.equal(flat(a), flat(b)) for a, b in zip(by_step[2:], by_epoch[2:], strict=True)
    )


@pytest.mark.parametrize("project", ["step", "epoch"])
def test_epochs_of_steps_are_steered_as_epochs(project):
    engine = make_engine(optimizer=SGD(lr=0.5))
    steerings: list[UpdateConstraint | None] = [UpdateConstraint(radius=0.2, project=project)] * 5
    by_epochs = engine.train(jobs(engine, steerings, epochs=3))
    for n, job, model in zip(SIZES, jobs(engine, steerings), by_epochs, strict=True):
        again = Training(
            job.pool, purpose=job.purpose, start=job.start, steering=job.steering,
            steps=3 * -(-n // 8),
        )  # fmt: skip
        assert torch.equal(flat(engine.train([again])[0]), flat(model))


@pytest.mark.parametrize("architecture", [SMALL, SmallCNN(), Normed()])
def test_frozen_coordinates_keep_their_bits(architecture):
    engine = make_engine(architecture, optimizer=SGD(lr=0.3, weight_decay=0.5))
    masks = [free_half(engine, seed) for seed in range(5)]
    asked = jobs(engine, [UpdateConstraint(free=mask) for mask in masks])
    for job, mask, model in zip(asked, masks, engine.train(asked), strict=True):
        moved = way(job, model) != 0
        assert not bool(moved[~mask].any())
        assert moved[mask].double().mean() > 0.9


@pytest.mark.parametrize("architecture", [SMALL, SmallCNN(), Normed()])
def test_without_gain_and_pull_weights_stay(architecture):
    engine = make_engine(architecture)
    asked = jobs(engine, [UpdateConstraint(gain=0.0)] * 5)
    for job, model in zip(asked, engine.train(asked), strict=True):
        assert torch.equal(flat(model), flat(job.start))


def test_a_radius_of_nothing_holds_the_weights():
    engine = make_engine()
    asked = jobs(
        engine, [UpdateConstraint(radius=0.0), UpdateConstraint(radius=0.0, project="epoch")]
    )
    for job, model in zip(asked, engine.train(asked), strict=True):
        assert float(way(job, model).norm()) == 0


def test_steered_models_stop_early_each_for_itself():
    spec: dict[str, Any] = {
        "epochs": 30,
        "optimizer": SGD(lr=0.6),
        "validation_share": 0.3,
        "early_stopping": EarlyStopping(patience=2),
    }
    engine = make_engine(SmallCNN(), **spec)
    half = free_half(engine)
    steerings: list[UpdateConstraint | None] = [
        UpdateConstraint(gain=0.9, pull=0.1 * k, free=half, radius=0.5 * k) for k in range(1, 6)
    ]
    asked = jobs(engine, steerings)
    crowd = engine.train(asked)
    assert len({model.epochs for model in crowd}) > 1
    for job, model in zip(asked, crowd, strict=True):
        alone = make_engine(SmallCNN(), **spec).train([job])[0]
        assert (alone.epochs, alone.curve) == (model.epochs, model.curve)
        assert torch.equal(flat(alone), flat(model))


def test_trainings_that_are_steered_apart_are_done_apart():
    engine = make_engine()
    pool, first = make_pool(21), UpdateConstraint(pull=0.5)
    steerings = [None, first, UpdateConstraint(pull=1.0), UpdateConstraint(radius=0.01), first]
    models = engine.train([Training(pool, steering=s) for s in steerings])
    assert engine.trainings == 4
    assert models[1] is models[4]
    assert len({float(flat(model).sum()) for model in models}) == 4


def test_a_norm_does_not_lose_its_digits():
    """A million coordinates at 1000, each moved by two units in the last place of float32."""
    weights = [torch.full((2, 1 << 20), 1000.0)]
    ball = StackedSteering([UpdateConstraint(radius=1e-3), UpdateConstraint(radius=1e9)], weights)
    gone = torch.full((2, 1 << 20), 1000.0 + 2**-13)
    before = gone.clone()
    assert float((gone[0].double() - 1000).norm()) == 0.125
    ball.after_step([gone])
    assert float((gone[0].double() - 1000).norm()) <= 1e-3
    assert torch.equal(gone[1], before[1])


def test_steerings_that_cannot_be_followed_are_refused():
    engine = make_engine()
    for bad, message in (
        (UpdateConstraint(pull=-1.0), "pull"),
        (UpdateConstraint(gain=float("nan")), "gain"),
        (UpdateConstraint(radius=-0.1), "radius"),
        (UpdateConstraint(radius=float("inf")), "radius"),
        (UpdateConstraint(free=torch.ones(4, dtype=torch.bool)), "free coordinates"),
        (UpdateConstraint(free=torch.ones(123)), "free coordinates"),
    ):
        with pytest.raises(ValueError, match=f"expected .*{message}"):
            engine.train([Training(make_pool(8), steering=bad)])
    assert engine.trainings == 0
