"""Which entries of a state are weights: each memory once, frozen parameters not."""

import pytest
import torch
from torch import nn

from learning.weights import WeightLayout


class Shared(nn.Module):
    """Two names of one parameter, a transposed view of it, a layer of two names."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight
        self.c.weight = nn.Parameter(self.a.weight.data.T)
        self.norm = nn.BatchNorm1d(4)
        self.again = self.norm
        self.fixed = nn.Linear(2, 2).requires_grad_(False)


def test_each_memory_counts_once_and_the_other_names_follow():
    model = Shared()
    layout = WeightLayout(model)
    assert layout.weights == (
        "a.weight", "a.bias", "b.bias", "c.bias", "norm.weight", "norm.bias",
    )  # fmt: skip
    assert layout.buffers == (
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    )  # fmt: skip
    assert layout.frozen == ("fixed.weight", "fixed.bias")
    assert layout.width == 12 + 4 + 4 + 3 + 4 + 4
    state = {name: value.clone() for name, value in model.state_dict().items()}
    again = layout.unflat(layout.flat(state), layout.rest(state))
    assert list(again) == list(state)
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_what_follows_is_laid_out_in_its_own_way():
    model = Shared()
    layout, state = WeightLayout(model), model.state_dict()
    moved = layout.unflat(torch.arange(layout.width).float(), layout.rest(state))
    assert torch.equal(moved["a.weight"], torch.arange(12.0).view(4, 3))
    assert torch.equal(moved["b.weight"], moved["a.weight"])
    assert torch.equal(moved["c.weight"], moved["a.weight"].T)
    model.load_state_dict(moved)
    assert torch.equal(model.c.weight, moved["c.weight"])


def test_a_buffer_that_is_a_parameter_under_another_name_follows_it():
    model = nn.Linear(2, 2)
    model.register_buffer("copy", model.weight.data)
    layout = WeightLayout(model)
    assert layout.weights == ("weight", "bias")
    assert layout.buffers == ()


def test_entries_that_share_a_part_of_their_memory_are_refused():
    model = nn.Module()
    whole = torch.zeros(6)
    model.register_buffer("some", whole[:4])
    model.register_buffer("others", whole[2:])
    with pytest.raises(ValueError, match="'others' and 'some', which share a part"):
        WeightLayout(model)
    model = nn.Module()
    model.register_buffer("some", whole[:3])
    model.register_buffer("others", whole[3:])
    assert WeightLayout(model).buffers == ("some", "others")


def test_a_plain_model_is_laid_out_as_pytorch_lists_its_parameters():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    layout = WeightLayout(model)
    assert list(layout.weights) == [name for name, _ in model.named_parameters()]
    assert layout.variances == {"1.running_var": 1e-5}
    vector = torch.cat([weight.flatten() for weight in model.parameters()])
    assert torch.equal(layout.flat(model.state_dict()), vector)


def test_a_model_held_for_evaluation_is_laid_out_like_the_one_that_is_trained():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    layout = WeightLayout(model)
    assert WeightLayout(model.requires_grad_(False)).weights == layout.weights


def test_the_head_is_the_last_linear_layer():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 4))
    layout = WeightLayout(model)
    head = layout.flat(model.state_dict())[layout.head]
    assert torch.equal(head, torch.cat([model[2].weight.flatten(), model[2].bias]))
    assert WeightLayout(nn.BatchNorm1d(3)).head is None
    model[2].bias.requires_grad_(False)
    assert WeightLayout(model).head is None
