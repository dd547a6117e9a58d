"""Any module is a model: its features are found by running it, its misfit is told before a game."""

from __future__ import annotations

import hashlib
import re
import sys
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from learning.models.base import Architecture
from learning.models.conformance import check_architecture, check_module
from learning.models.features import features_of
from learning.models.published import fitted, read_weights, sha256_of
from learning.models.timm_named import TimmNet
from learning.models.torchvision_named import Name, TorchvisionNet
from learning.pool import Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Training
from learning.training.spec import ComputeSpec, TrainingSpec

SHAPE = (1, 4, 4)


class Twisted(nn.Module):
    """Layers are declared in another order than they run in, and a block is called features."""

    def __init__(self, channels=1, classes=3):
        super().__init__()
        self.out = nn.Linear(5, classes)
        self.features = nn.Sequential(nn.Conv2d(channels, 2, 3), nn.ReLU())
        self.inner = nn.Linear(8, 5)

    def forward(self, x):
        return self.out(self.inner(self.features(x).flatten(1)).tanh())


class TwistedNet(Architecture):
    kind: Literal["twisted"] = "twisted"

    def build(self, shape, classes):
        return Twisted(shape[0], classes)


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def test_features_are_what_the_layer_that_runs_last_is_given():
    model, x = seeded(Twisted), torch.rand(6, *SHAPE)
    seen = model.inner(model.features(x).flatten(1)).tanh()
    assert torch.equal(features_of(model, x), seen)
    assert torch.equal(model.out(features_of(model, x)), model(x))
    assert not any(layer._forward_hooks for layer in model.modules())


def test_hooks_go_even_where_the_model_fails():
    model = Twisted()
    with pytest.raises(RuntimeError):
        features_of(model, torch.rand(2, 3, 4, 4))
    assert not any(layer._forward_hooks for layer in model.modules())


def test_without_a_linear_layer_a_method_says_the_features():
    class Own(nn.Module):
        def features(self, x):
            return x.flatten(1) * 2

    x = torch.rand(3, *SHAPE)
    assert torch.equal(features_of(Own(), x), x.flatten(1) * 2)
    with pytest.raises(ValueError, match=r"^expected a model that ends in a linear layer.*Conv2d"):
        features_of(nn.Conv2d(1, 1, 1), x)


class Fails(Architecture):
    kind: Literal["fails"] = "fails"
    how: str = "fits"

    def build(self, shape, classes):
        width = shape[0] * shape[1] * shape[2]
        flat = nn.Flatten()
        return {
            "fits": lambda: nn.Sequential(flat, nn.Linear(width, classes)),
            "channels": lambda: nn.Sequential(nn.Conv2d(3, 2, 1), flat, nn.Linear(32, classes)),
            "outputs": lambda: nn.Sequential(flat, nn.Linear(width, 1000)),
            "no linear": lambda: nn.Sequential(nn.Conv2d(1, classes, 4), flat),
            "two answers": lambda: Pair(nn.Sequential(flat, nn.Linear(width, classes))),
            "frozen": lambda: nn.Sequential(flat, nn.Linear(width, classes)).requires_grad_(False),
            "draws": lambda: Drawn(width, classes),
        }[self.how]()


class Pair(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x), x


class Drawn(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.head = nn.Linear(width, classes)
        noise = np.random.default_rng().normal(size=self.head.weight.shape)
        self.head.weight.data.copy_(torch.from_numpy(noise))

    def forward(self, x):
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("channels", r"expected Sequential to take inputs of shape \(1, 4, 4\), got RuntimeError"),
        ("outputs", r"expected logits of shape \(2, 3\) for 2 inputs, got \(2, 1000\)"),
        ("no linear", r"expected a linear layer, got Sequential without"),
        ("two answers", r"expected logits as one tensor, got tuple"),
        ("frozen", r"expected weights to train, got none"),
        ("draws", r"expected initial weights that follow torch's generator alone, got others"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(how, told):
    with pytest.raises(AssertionError, match=told) as refused:
        check_architecture(Fails(how=how), SHAPE, 3)
    assert "\n" not in str(refused.value)


def test_what_fits_is_taken_and_left_as_it_was():
    check_architecture(Fails(), SHAPE, 3)
    check_architecture(TwistedNet(), SHAPE, 3)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_module(model, SHAPE, 3)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("how", ["channels", "outputs", "no linear"])
def test_an_engine_refuses_before_it_trains(how):
    recipe = Recipe(Fails(how=how), SHAPE, 3, TrainingSpec(), ComputeSpec(device="cpu"), 0)
    with pytest.raises(ValueError, match=r"^model: expected "):
        Engine(recipe)


def test_models_that_cannot_be_stacked_are_trained_one_by_one_with_a_note():
    training = TrainingSpec(epochs=1, batch_size=8)
    engine = Engine(Recipe(TwistedNet(), SHAPE, 3, training, ComputeSpec(device="cpu"), 0))
    draws = np.random.default_rng(0)
    x = draws.random((24, *SHAPE), dtype=np.float32)
    pools = [Pool((Block("a", 0, x[k:], np.arange(24 - k) % 3),), 3) for k in (0, 8)]
    both = engine.train([Training(pool) for pool in pools])
    assert engine.notes == (
        "twisted models are trained one by one: the architecture is not batchable",
    )
    assert [one.rows for one in both] == [24, 16]
    assert features_of(both[0].module, torch.from_numpy(x)).shape == (24, 5)


def test_every_classifier_of_torchvision_can_be_named():
    from torchvision import models

    assert set(get_args(Name)) == set(models.list_models(module=models))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize("shape", [(1, 33, 33), (3, 32, 32)])
def test_a_torchvision_network_takes_the_games_shape(name, shape):
    check_architecture(TorchvisionNet(name=name), shape, 7)


@pytest.mark.parametrize(
    ("name", "told"), [("vit_b_16", "that 16 divides"), ("alexnet", "AlexNet")]
)
def test_a_network_that_wants_larger_images_says_so_in_one_line(name, told):
    with pytest.raises(AssertionError, match=told) as refused:
        check_architecture(TorchvisionNet(name=name), (3, 20, 20), 7)
    assert "\n" not in str(refused.value)


@pytest.fixture
def weights(tmp_path):
    """A made-up squeezenet of five classes, as torchvision saves it, in a safetensors file."""
    from torchvision import models

    net = seeded(lambda: models.squeezenet1_1(num_classes=5)).eval()
    path = tmp_path / "net.safetensors"
    save_file(net.state_dict(), path)
    return net, str(path)


def test_weights_from_a_file_give_the_published_logits(weights):
    net, path = weights
    x = torch.rand(2, 3, 64, 64)
    own = TorchvisionNet(name="squeezenet1_1", weights=path).build((3, 64, 64), 5).eval()
    # Without the ReLU that SqueezeNet has before its mean.
    last = net.classifier[1]
    wanted = last(net.features(x)).mean((2, 3))
    torch.testing.assert_close(own(x), wanted)


def test_another_number_of_classes_gets_a_new_head_on_the_files_body(weights):
    net, path = weights
    own = seeded(lambda: TorchvisionNet(name="squeezenet1_1", weights=path).build((3, 64, 64), 4))
    assert torch.equal(own.features[0].weight, net.features[0].weight)
    assert own.classifier[3].weight.shape == (4, 512)


def test_grey_images_are_answered_as_grey_rgb(weights):
    _, path = weights
    grey, colour = (
        TorchvisionNet(name="squeezenet1_1", weights=path).build((c, 64, 64), 5).eval()
        for c in (1, 3)
    )
    x = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(grey(x), colour(x.expand(2, 3, 64, 64)))


def test_normalising_comes_before_the_network(weights):
    _, path = weights
    plain, normal = (
        TorchvisionNet(name="squeezenet1_1", weights=path, normalise=n).build((3, 64, 64), 5).eval()
        for n in (False, True)
    )
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ))  # fmt: skip
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(normal(x), plain((x - mean) / deviation))


def test_the_weights_sha256_is_checked(weights):
    _, path = weights
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.sha256(file.read()).hexdigest()
    assert sha256_of(path) == digest
    assert read_weights(path, digest)
    with pytest.raises(
        ValueError, match=rf"^model\.weights: expected the SHA-256 0{{12}}.*{digest[:12]}"
    ):
        read_weights(path, "0" * 64)


def test_files_that_are_none_are_refused_in_one_line(tmp_path):
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"no tensors at all")
    for path, told in (
        (junk, "expected a safetensors file"),
        (tmp_path / "gone", "expected a file"),
    ):
        with pytest.raises(ValueError, match=rf"^model\.weights: {told}[^\n]*$"):
            read_weights(str(path))


class Plain(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Conv2d(3, width, 1), nn.Flatten(), nn.Linear(width, 2))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: s.pop("0.bias"), "no 0.bias"),
        (lambda s: s.update(more=torch.zeros(1)), "more"),
        (lambda s: s.update({"0.bias": torch.zeros(9)}), re.escape("0.bias of shape (9,)")),
    ],
)
def test_weights_of_another_network_are_refused(spoil, told):
    state = dict(Plain().state_dict())
    spoil(state)
    with pytest.raises(
        ValueError, match=f"expected the weights of this network, got others: {told}"
    ):
        fitted(Plain(), 3, 2, state)


def test_weights_for_grey_images_are_taken_for_grey_images():
    grey = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4, 6))
    own = fitted(Plain(), 1, 6, grey.state_dict())
    x = torch.rand(3, 1, 1, 1)
    assert torch.equal(own(x), grey(x))


def test_timm_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'backfire\[timm\]'$"):
        TimmNet(name="resnet10t").build((3, 32, 32), 5)


def test_a_timm_network_takes_the_games_shape_and_weights(tmp_path):
    timm = pytest.importorskip("timm")
    check_architecture(TimmNet(name="test_resnet"), (1, 32, 32), 5)
    with pytest.raises(ValueError, match=r"^model\.name: expected a network of timm, got 'resne'"):
        TimmNet(name="resne").build((3, 32, 32), 5)
    net = seeded(lambda: timm.create_model("test_resnet")).eval()
    path = tmp_path / "net.safetensors"
    save_file(net.state_dict(), path)
    own = TimmNet(name="test_resnet", weights=str(path)).build((3, 32, 32), 1000).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(own(x), net(x))
