"""Copies of a model: as `copy.deepcopy` makes them, and nobody else's."""

from __future__ import annotations

import copy
import gc
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.resnet32 import ResNet32
from learning.models.small_cnn import SmallCNN
from learning.training.engine.engine import Engine, Recipe
from learning.training.spec import ComputeSpec, TrainingSpec
from learning.training.stacked.modules import Template

SHAPE = (1, 8, 8)


class Listed(nn.Module):
    """Finds its layers through a list, which only a deep copy follows; two of them are one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 64), nn.Linear(64, 3)
        self.again = self.first
        self.steps = [nn.Flatten(), self.first, nn.ReLU(), self.again, self.head]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x.flatten(1)).relu()))
        return out


class Odd(Architecture):
    kind: Literal["odd"] = "odd"
    tied: bool = False

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Tied() if self.tied else Listed()


METHODS: list[Any] = [MLP(hidden=(6,)), SmallCNN(), ResNet32(), Odd(), Odd(tied=True)]


def build(method: Architecture) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return method.build(SHAPE, 3)


def changed(module: nn.Module) -> dict[str, Tensor]:
    state = copy.deepcopy(module).state_dict()
    return {k: 1.01 * v + 1e-3 if v.is_floating_point() else v + 3 for k, v in state.items()}


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_copy_is_the_deep_copy(method):
    module = build(method)
    before = copy.deepcopy(module.state_dict())
    state = changed(module)
    made = Template(module).holding(state)
    oracle = copy.deepcopy(module)
    oracle.load_state_dict(state)
    x = torch.rand(4, *SHAPE)
    assert torch.equal(made(x), oracle.eval()(x))
    assert list(made.state_dict()) == list(oracle.state_dict())
    assert [p.requires_grad for p in made.parameters()] == [False] * len(list(module.parameters()))
    assert not any(layer.training for layer in made.modules())
    assert all(layer.training for layer in module.modules())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert repr(made) == repr(module)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_copies_share_nothing_that_changes(method):
    module = build(method)
    template, state = Template(module), changed(module)
    one, other = template.holding(state), template.holding(state)
    calls: list[int] = []
    for layer in one.modules():
        layer.register_forward_hook(lambda *_: calls.append(1))
    for value in one.state_dict().values():
        value.zero_()
    one.train()
    x = torch.rand(2, *SHAPE)
    oracle = copy.deepcopy(module)
    oracle.load_state_dict(state)
    assert torch.equal(other(x), oracle.eval()(x))
    assert not calls
    one(x)
    assert calls
    module.zero_grad()
    assert not any(layer._forward_hooks for layer in (*module.modules(), *other.modules()))


def test_weights_of_another_model_are_refused_in_one_line():
    template = Template(build(MLP(hidden=(6,))))
    state = template.state
    longer = {**state, "extra": torch.zeros(2)}
    wide = {**state, "head.bias": torch.zeros(4)}
    for bad, message in (
        ({}, r"missing \['body.1.bias'"),
        (longer, r"unknown \['extra'\]"),
        (wide, r"head.bias must be \(3,\), got \(4,\)"),
    ):
        with pytest.raises(
            ValueError, match=rf"^expected the weights of this model: [^\n]*{message}"
        ):
            template.holding(bad)


def test_a_start_is_held_once_while_somebody_has_it():
    engine = Engine(
        Recipe(SmallCNN(), SHAPE, 3, TrainingSpec(), ComputeSpec(device="cpu", threads=1), 0)
    )
    state = changed(engine.initial().module)
    first = engine.holding(state)
    assert engine.holding({k: v.clone() for k, v in state.items()}) is first
    state["head.bias"][0] = -0.0
    second = engine.holding(state)
    state["head.bias"][0] = 0.0
    third = engine.holding(state)
    assert len({id(first), id(second), id(third)}) == 3  # bits count, not values
    assert torch.signbit(second.module.state_dict()["head.bias"][0])
    del first, second, third
    gc.collect()
    assert len(engine._held) == 0
