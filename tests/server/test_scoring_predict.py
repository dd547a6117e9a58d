"""Answers: every row gets the class of its own pass, whatever the batches and the groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from learning.training.job import Trained
from server.referee.scoring.answers import Passes, answer_everybody, ask
from server.referee.scoring.predict import LogMeanSoftmax, _precision, as_one, predicted, scoring
from server.referee.scoring.rows import ScoredRows
from strategies.base import Guesser, Predictor

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 4, 4), 5


def trained(module):
    return Trained(module.requires_grad_(False), (), 1, 1, 0.0)


def network(seed, norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity()]
        return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES))


def images(seed, count):
    return np.random.default_rng(seed).random((count, *SHAPE), dtype=np.float32)


def one_by_one(models, x):
    """Return the oracle: each row alone, in float64, mean softmax."""
    out = []
    for row in x:
        probability = 0
        for model in models:
            double = nn.Sequential(model.module).double().eval()
            probability = probability + double(torch.from_numpy(row[None]).double()).softmax(1)
            model.module.float()
        out.append(int(probability.argmax()))
    return out


def test_rows_are_numbered_through_and_come_in_the_order_asked():
    parts = [images(k, n) for k, n in enumerate([3, 0, 5, 1, 2])]
    rows, joined = ScoredRows(parts), np.concatenate(parts)
    assert len(rows) == 11
    for index in ([0], [10, 0, 10, 3], list(range(11)), [2, 3, 7, 8, 9]):
        assert (rows.take(np.array(index)) == joined[index]).all()
    rows.take(np.array([0]))[:] = 7
    assert (parts[0] != 7).all()
    assert len(ScoredRows([])) == 0


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_predictions_do_not_depend_on_the_batch_size(batch_size):
    # Classes 0 and 1 are tied up to rounding: a batched pass may turn them either way.
    module = network(0)
    with torch.no_grad():
        module[-1].weight[1] = module[-1].weight[0] + 1e-8
        module[-1].bias[:2] = 5.0
    rows = ScoredRows([images(1, 300)])
    alone = predicted(module, rows, np.arange(300), CPU, 1)
    assert (predicted(module, rows, np.arange(300), CPU, batch_size) == alone).all()
    assert set(alone.tolist()) <= {0, 1}


class Uneven(nn.Module):
    """A model whose rounding depends on the batch: its ties turn with the batch size."""

    def forward(self, x):
        logits = torch.zeros(len(x), 2)
        logits[:, 1] = x[:, 0, 0, 0] + (1e-6 if len(x) > 1 else -1e-6)
        return logits


def test_a_tie_that_turns_with_the_batch_is_decided_by_the_row_alone():
    rows = ScoredRows([np.zeros((5, *SHAPE), np.float32)])
    for batch_size in (1, 2, 5):
        assert predicted(Uneven(), rows, np.arange(5), CPU, batch_size).tolist() == [0] * 5


def test_scoring_restores_every_modes_and_uses_evaluation_mode():
    module = network(0, norm=True)
    module.train()
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    rows = ScoredRows([images(1, 40)])
    answers = predicted(module, rows, np.arange(40), CPU, 8)
    assert [part.training for part in module.modules()] == modes
    assert all((before[name] == value).all() for name, value in module.state_dict().items())
    assert answers.tolist() == one_by_one([trained(module)], images(1, 40))


def test_modes_are_restored_when_the_model_fails():
    module = network(0).train()
    with pytest.raises(RuntimeError), scoring(module, CPU):
        raise RuntimeError
    assert module.training


def test_scoring_ignores_a_surrounding_autocast():
    seen = []
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    module[1].register_forward_hook(lambda _module, _inputs, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        predicted(module, ScoredRows([images(0, 3)]), np.arange(3), CPU, 2)
    assert set(seen) == {torch.float32}


def test_several_models_answer_with_their_mean_softmax():
    modules = [network(k) for k in range(3)]
    x = torch.from_numpy(images(5, 9))
    mean = torch.stack([module(x).softmax(1) for module in modules]).mean(0)
    assert torch.allclose(LogMeanSoftmax(modules)(x).exp(), mean, atol=1e-6)
    assert as_one([trained(modules[0])]) is modules[0]


def index_of(agents, seeds):
    models = [trained(network(seed)) for seed in seeds]
    own = {f"a{k}": (models[k % len(models)],) for k in range(agents)}
    own["a1"] = (models[0], models[1])
    return Predictor((trained(network(99)),), own)


class ByPixel(Guesser):
    """Guesses by the first pixel: a0, a1, or somebody of whom nobody has heard."""

    def guess(self, x):
        return [["a0", "a1", "nobody"][int(value * 3)] for value in x[:, 0, 0, 0]]


@pytest.mark.parametrize("guesser", [None, ByPixel()])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_every_agent_is_answered_by_its_models(guesser, batch_size):
    index = index_of(6, [1, 2, 3])
    predictor = Predictor(index.shared, index.by_agent, guesser)
    inputs = {f"a{k}": images(20 + k, k) for k in range(8)}  # a6 and a7 are not in the index
    asked = ask(predictor, inputs, Passes(CPU, batch_size))
    for name, x in inputs.items():
        names = [name] * len(x) if guesser is None else guesser.guess(x)
        truth = [
            one_by_one(predictor.models(who), row[None])[0]
            for who, row in zip(names, x, strict=True)
        ]
        assert asked.classes[name].tolist() == truth
        if guesser is not None:
            assert asked.guessed[name] == names.count(name)
    assert (asked.guessed is None) == (guesser is None)
    assert next(iter(asked.classes.values())).dtype == np.int16


def test_each_distinct_model_sees_the_test_set_once():
    predictor = index_of(9, [1, 2, 3])
    x = images(3, 12)
    names = [f"a{k}" for k in range(9)] + ["stranger"]
    answers = answer_everybody(predictor, ScoredRows([x]), names, Passes(CPU, 5))
    # a0, a3, a6 share a model; a4, a7; a2, a5, a8; a1 has two models; the stranger the shared one.
    assert sorted(count for _, count in answers) == [1, 1, 2, 3, 3]
    total = sum((classes.astype(int) == 2) * count for classes, count in answers)
    truth = sum(np.array(one_by_one(predictor.models(name), x)) == 2 for name in names)
    assert (total == truth).all()
    assert len(answer_everybody(predictor, ScoredRows([x]), [], Passes(CPU, 5))) == 1


class Counting(nn.Module):
    """Counts its passes and remembers the largest."""

    def __init__(self):
        super().__init__()
        self.passes, self.largest = 0, 0

    def forward(self, x):
        self.passes += 1
        self.largest = max(self.largest, len(x))
        return torch.nn.functional.one_hot((x[:, 0, 0, 0] > 0.5).long(), 2).float()


@pytest.mark.parametrize("agents", [1, 10, 1000])
def test_a_thousand_agents_cost_as_many_passes_as_one(agents):
    module, each = Counting(), 2000 // agents
    inputs = {f"a{k}": images(k, each) for k in range(agents)}
    asked = ask(Predictor((trained(module),)), inputs, Passes(CPU, 256))
    assert (module.passes, module.largest) == (8, 256)
    assert all((asked.classes[name] == (x[:, 0, 0, 0] > 0.5)).all() for name, x in inputs.items())


def test_nobody_asks():
    assert ask(Predictor((trained(Counting()),)), {}, Passes(CPU, 4)).classes == {}
    empty = {"a": np.zeros((0, *SHAPE), np.float32)}
    assert ask(Predictor((trained(Counting()),)), empty, Passes(CPU, 4)).classes["a"].size == 0


@pytest.mark.parametrize("settings", [torch.backends.cuda.matmul, torch.backends.cudnn.conv])
def test_tensorfloat_is_off_while_scoring_and_as_before_afterwards(settings):
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "tf32"
        with pytest.raises(RuntimeError), _precision(settings):  # noqa: PT012 - two statements
            assert settings.fp32_precision == "ieee"
            raise RuntimeError
        assert settings.fp32_precision == "tf32"
    finally:
        settings.fp32_precision = before
