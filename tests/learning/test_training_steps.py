"""Trainings of an exact number of steps, and the factor of the learning rate."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.small_cnn import SmallCNN
from learning.optimizers.sgd import SGD
from learning.pool import Block, Pool
from learning.schedules.cosine import Cosine
from learning.schedules.milestones import Milestones
from learning.training.batches.order import visiting_order
from learning.training.engine.engine import Engine, EpochEvent, Recipe
from learning.training.job import BatchHook, Trained, Training
from learning.training.length import Length
from learning.training.spec import AugmentImages, ComputeSpec, EarlyStopping, TrainingSpec

SHAPE = (1, 4, 4)
SIZES = (5, 8, 21, 33)


class Turn(BatchHook):
    """Mixes with other rows, drawn anew in each step."""

    kind: Literal["turn"] = "turn"
    paper: ClassVar[str] = ""

    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        other = torch.randperm(len(x), generator=generator)
        return 0.7 * x + 0.3 * x[other], 0.7 * targets + 0.3 * targets[other]


def make_pool(rows: int) -> Pool:
    draw = np.random.default_rng(rows)
    x = draw.random((rows, *SHAPE), dtype=np.float32)
    return Pool((Block(f"a{rows}", 0, x, draw.integers(0, 3, rows)),), 3)


def make_engine(
    architecture: Architecture | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    together: bool = True,
    events: list[EpochEvent] | None = None,
    **training: Any,
) -> Engine:
    spec = TrainingSpec(**{"epochs": 2, "batch_size": 8, "optimizer": SGD(lr=0.1), **training})
    compute = ComputeSpec(device="cpu", threads=1, together=together)
    recipe = Recipe(architecture or MLP(hidden=(6,)), SHAPE, 3, spec, compute, 3)
    return Engine(recipe, events.append if events is not None else None, dtype=dtype)


def jobs(steps: int | None, **more: Any) -> list[Training]:
    return [Training(make_pool(n), steps=steps, purpose=f"p{n}", **more) for n in SIZES]


def weights(model: Trained) -> list[Tensor]:
    return list(model.module.state_dict().values())


def equal(a: Trained, b: Trained) -> bool:
    return all(torch.equal(u, v) for u, v in zip(weights(a), weights(b), strict=True))


def plain_loop(engine: Engine, job: Training, lr: float) -> tuple[list[Tensor], float]:
    """Take the job's steps as a torch tutorial would; return weights and mean loss."""
    spec, steps, pool = engine.recipe.training, job.steps, job.pool
    assert steps is not None
    model = engine.initial().module.train().requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    x, y = torch.from_numpy(pool.x).double(), torch.from_numpy(pool.y)
    epochs = -(-steps // -(-len(pool) // spec.batch_size))
    done, total, rows = 0, 0.0, 0
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * spec.schedule.rate(epoch, epochs)
        order = torch.from_numpy(visiting_order(3, job.purpose, epoch, pool.ids))
        for batch in order.split(spec.batch_size):
            if done == steps:
                break
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done, total, rows = done + 1, total + loss.item() * len(batch), rows + len(batch)
    return [w.detach() for w in model.parameters()], total / rows


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("schedule", [Milestones(milestones=(1, 3), factor=0.5), Cosine()])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_steps_are_those_of_a_plain_torch_loop(together, schedule, steps):
    engine = make_engine(together=together, schedule=schedule)
    for job, model in zip(jobs(steps, rate=0.5), engine.train(jobs(steps, rate=0.5)), strict=True):
        oracle, loss = plain_loop(engine, job, 0.05)
        for own, theirs in zip(weights(model), oracle, strict=True):
            torch.testing.assert_close(own, theirs, rtol=0, atol=1e-10)
        assert model.epochs == -(-steps // -(-len(job.pool) // 8))
        assert [entry["train_loss"] for entry in model.curve] == pytest.approx([loss], abs=1e-9)
        factor = schedule.rate(model.epochs - 1, model.epochs)
        assert model.curve[0]["learning_rate"] == pytest.approx(0.05 * factor)


@pytest.mark.parametrize("architecture", [MLP(hidden=(6,)), SmallCNN()])
@pytest.mark.parametrize("together", [True, False])
def test_whole_epochs_of_steps_are_epochs(architecture, together):
    spec: dict[str, Any] = {"augment": AugmentImages(crop_padding=1), "together": together}
    engine = make_engine(architecture, dtype=torch.float32, **spec)
    by_steps = [
        Training(make_pool(n), steps=2 * -(-n // 8), purpose=f"p{n}", hooks=(Turn(),))
        for n in SIZES
    ]
    for a, b in zip(engine.train(by_steps), engine.train(jobs(None, hooks=(Turn(),))), strict=True):
        assert equal(a, b)
        assert (a.epochs, len(a.curve), len(b.curve)) == (2, 1, 2)
        mean = (b.curve[0]["train_loss"] + b.curve[1]["train_loss"]) / 2
        assert a.curve[0]["train_loss"] == pytest.approx(mean)
    assert engine.trainings == 2 * len(SIZES)


@pytest.mark.parametrize("schedule", [Milestones(milestones=(2,)), Cosine(), None])
def test_steps_have_the_same_bits_in_any_company(schedule):
    spec: dict[str, Any] = {"dtype": torch.float32, "validation_share": 0.2}
    spec |= {} if schedule is None else {"schedule": schedule}
    asked = jobs(35, hooks=(Turn(),))
    crowd = make_engine(SmallCNN(), **spec).train(asked)
    for some in ([0], [1], [0, 2], [1, 3]):
        few = make_engine(SmallCNN(), **spec).train([asked[k] for k in some])
        assert all(equal(crowd[k], model) for k, model in zip(some, few, strict=True))
    assert all("validation_loss" in model.curve[0] for model in crowd)


def test_trainings_of_different_rate_or_steps_are_different():
    engine = make_engine()
    pool = make_pool(21)
    asked = [Training(pool, steps=s, rate=r) for s in (2, 3, None) for r in (1.0, 0.5)]
    models = engine.train([*asked, *asked])
    assert engine.trainings == 6
    assert models[:6] == models[6:]
    assert not any(equal(a, b) for i, a in enumerate(models[:6]) for b in models[:i])
    halved = make_engine(optimizer=SGD(lr=0.05)).train([Training(pool)])[0]
    assert equal(models[5], halved)


def test_a_diverged_training_of_steps_ends_where_it_began():
    events: list[EpochEvent] = []
    engine = make_engine(dtype=torch.float32, events=events)
    wild, tame = engine.train([Training(make_pool(8), steps=90, rate=r) for r in (1e30, 1.0)])
    assert equal(wild, engine.initial())
    assert (wild.epochs, wild.curve, tame.epochs) == (0, (), 90)
    assert [note for note in engine.notes if "diverged within 90 steps" in note]
    assert events[-1].share == 1.0


def test_lengths_that_cannot_be_are_refused():
    stopping = EarlyStopping(monitor="train_loss")
    for engine, more, message in (
        (make_engine(early_stopping=stopping), {"steps": 3}, "early stopping"),
        (make_engine(), {"steps": 0}, "at least 1 of a training's steps"),
        (make_engine(), {"epochs": 0}, "at least 1 of a training's epochs"),
        (make_engine(), {"rate": 0.0}, "rate of a training above 0"),
        (make_engine(), {"rate": float("inf")}, "rate of a training above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.train([Training(make_pool(8), **more)])


def test_spans_cover_a_training():
    by_epoch, by_step = Length(4), Length(1, 10)
    spans = [by_epoch.span(k, 3) for k in range(by_epoch.spans)]
    assert [spans[0].start, *(s.stop for s in spans)] == [0, 3, 6, 9, 12]
    assert all(a.stop == b.start for a, b in pairwise(spans))
    assert (by_step.spans, by_step.span(0, 3)) == (1, range(10))
    assert [by_step.epochs_in(1, b) for b in (1, 3, 5, 10, 11)] == [10, 4, 2, 1, 1]
    assert (by_step.epochs_in(0, 3), by_epoch.epochs_in(2, 3)) == (0, 2)
