"""Architectures: published parameter counts, features, odd inputs, pretrained weights."""

from __future__ import annotations

import re
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from learning.method import discover
from learning.models.base import Architecture
from learning.models.features import features_of
from learning.models.preact_resnet18 import PreActResNet18
from learning.models.resnet32 import ResNet32
from learning.models.small_cnn import SmallCNN
from learning.models.torchvision_nets import ResNet18
from learning.models.two_conv_cnn import TwoConvCNN

KINDS = discover(Architecture, "learning.models")
# S0 Table 2 and the publications of the other networks; 3x32x32 inputs, 10 classes.
COUNTS = {
    "softmax": 32 * 32 * 3 * 10 + 10,
    "mlp": (3072 * 128 + 128) + (128 * 64 + 64) + (64 * 10 + 10),
    "small_cnn": 15_722,
    "two_conv_cnn": (75 * 16 + 16) + (16 * 25 * 32 + 32) + (2048 * 10 + 10),
    "resnet9": 7_756_554,
    "preact_resnet18": 11_171_146,
    "resnet32": 464_154,
    "resnet18": 11_181_642,
    "resnet34": 21_289_802,
    "resnet50": 23_528_522,
    "resnet101": 42_520_650,
    "resnet152": 58_164_298,
    "wide_resnet50_2": 66_854_730,
    "wide_resnet101_2": 124_858_186,
    "vgg11_bn": 128_812_810,
}
# Of the house's networks these are played, of all others every one.
NIMBLE = [
    "softmax", "mlp", "small_cnn", "two_conv_cnn", "resnet9", "preact_resnet18", "resnet32",
    "resnet18",
]  # fmt: skip
PLAYED = NIMBLE + sorted(kind for kind in KINDS if kind not in COUNTS and KINDS[kind].examples)
# The smallest sides of the house's networks.
LEAST = {kind: {"resnet9": 8, "vgg11_bn": 32, "two_conv_cnn": 4}.get(kind, 1) for kind in COUNTS}


def build(architecture: Architecture, *shape: int, device: str = "cpu") -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        return architecture.build(shape, 10).eval()  # type: ignore[arg-type]


def example(kind: str) -> Architecture:
    return KINDS[kind](**KINDS[kind].examples[0])


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_every_published_network_is_found():
    assert set(COUNTS) <= set(KINDS)


@pytest.mark.parametrize("kind", COUNTS)
def test_parameter_counts(kind):
    assert parameters(build(KINDS[kind](), 3, 32, 32, device="meta")) == COUNTS[kind]


@pytest.mark.parametrize("downsample", ["max", "average", "stride", "none"])
@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
def test_shrinking_leaves_the_small_cnns_count_alone(downsample, halvings):
    model = build(SmallCNN(downsample=downsample, halvings=halvings), 3, 32, 32)
    assert parameters(model) == 15_722
    sizes: list[int] = []
    for layer in model.body:
        layer.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    model(torch.zeros(1, 3, 32, 32))
    shrunk = 0 if downsample == "none" else halvings
    assert min(size for size in sizes[:9] if size > 1) == 32 // 2**shrunk


def test_cifar_stem_is_the_usual_cifar_resnet():
    assert parameters(build(ResNet18(stem="cifar"), 3, 32, 32, device="meta")) == 11_173_962


@pytest.mark.parametrize("kind", PLAYED)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_features_are_the_input_of_the_last_linear_layer(kind, shape):
    model = build(example(kind), *shape)
    seen: list[Tensor] = []
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    x = torch.rand(2, *shape)
    logits = model(x)
    assert logits.shape == (2, 10)
    assert torch.equal(seen[0], features_of(model, x))
    assert torch.equal(last(features_of(model, x)), logits)


@pytest.mark.parametrize("kind", sorted(kind for kind in KINDS if KINDS[kind].examples))
@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 9, 33), (3, 1, 1)])
def test_any_input_works_or_is_refused_in_one_line(kind, shape):
    refused = None
    try:
        model = build(example(kind), *shape, device="meta")
    except ValueError as error:
        refused = str(error)
    small = min(shape[1:]) < LEAST[kind] if kind in LEAST else refused is not None
    assert (refused is not None) == small
    if refused is not None:
        assert re.fullmatch(rf"{kind} takes inputs of at least [^\n]*", refused)
        return
    assert model(torch.zeros(2, *shape, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("kind", sorted(KINDS.keys()))
def test_every_network_is_that_of_its_caller(kind):
    """Its initial weights come from the random state of whoever builds it, and nothing else."""
    if kind not in PLAYED:
        pytest.skip("of the large networks of one family one is played")
    first, again = (build(example(kind), 3, 32, 32).state_dict() for _ in "ab")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    method = example(kind)
    assert KINDS[kind].model_validate_json(method.model_dump_json()) == method


@pytest.mark.parametrize("kind", ["small_cnn", "resnet32", "resnet18"])
def test_weights_come_from_the_callers_random_scope(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        first = KINDS[kind]().build((1, 8, 8), 10)
        torch.random.set_rng_state(before)
        second = KINDS[kind]().build((1, 8, 8), 10)
        third = KINDS[kind]().build((1, 8, 8), 10)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, third.head.weight)


def test_preact_block_passes_its_input_on():
    block = build(PreActResNet18(), 3, 8, 8).body[1]
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(block(x), x)


def test_resnet32_shortcut_subsamples_and_pads_with_zeros():
    block = build(ResNet32(), 3, 8, 8).body[3 + 5]
    nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.fixture
def published(monkeypatch) -> dict[str, Tensor]:
    """A made-up resnet18 of 1000 classes in place of the download."""
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = models.resnet18().state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(state)
    )
    return state


def test_pretrained_weights_with_a_new_head(published):
    model = build(ResNet18(pretrained=True), 3, 32, 32)
    own = model.body.state_dict()
    assert own.keys() == {name for name in published if not name.startswith("fc.")}
    assert all(torch.equal(value, published[name]) for name, value in own.items())
    assert model.head.weight.shape == (10, 512)


def test_pretrained_weights_see_grey_as_grey_rgb(published):
    grey, colour = (build(ResNet18(pretrained=True), c, 32, 32) for c in (1, 3))
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey.features(x), colour.features(x.expand(2, 3, 32, 32)))


def test_missing_pretrained_weights_are_one_clear_line(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match=r"^model\.pretrained: .*resnet18.*pretrained: false$"):
        build(ResNet18(pretrained=True), 3, 32, 32)


def test_normalise_brings_imagenets_mean_to_zero():
    model = build(ResNet18(normalise=True), 3, 32, 32)
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert not model.body[0](grey).any()
    assert "body.0.mean" not in model.state_dict()


def test_the_cnn_of_s3_has_the_layers_of_its_public_code_without_padding():
    model = build(TwoConvCNN(padding=False), 1, 28, 28)
    assert parameters(model) == (25 * 16 + 16) + (16 * 25 * 32 + 32) + (512 * 10 + 10)
    with pytest.raises(ValueError, match="at least 16 x 16, got"):
        build(TwoConvCNN(padding=False), 1, 15, 15)
