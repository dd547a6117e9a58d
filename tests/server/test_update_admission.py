"""What a model update may hold: finite numbers in range, no variance and no counter below 0."""

import pytest
import torch
from torch import nn

from learning.hostile_buffers import hostile_buffers
from learning.weights import WeightLayout
from learning.wire import Refusal
from server.wire.updates import check_update


@pytest.fixture
def model():
    out = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    out.register_buffer("mask", torch.tensor([True, False]))
    out.register_buffer("offsets", torch.tensor([-3, 3]))
    return out


def refused(model, **changes):
    layout = WeightLayout(model)
    with pytest.raises(Refusal) as refusal:
        check_update(model.state_dict() | changes, layout)
    return refusal.value.code, refusal.value.message


def test_an_honest_state_is_admitted(model):
    check_update(model.state_dict(), WeightLayout(model))


@pytest.mark.parametrize("value", [-100.0, -1e-9])
def test_a_variance_below_0_is_refused(model, value):
    """Case bn-statistics."""
    code, message = refused(model, **{"1.running_var": torch.tensor([1.0, value])})
    assert code == "range"
    assert message == f"expected variances of 0 or more, got {value:g} in 1.running_var"


def test_a_counter_below_0_is_refused(model):
    code, message = refused(model, **{"1.num_batches_tracked": torch.tensor(-(2**39))})
    assert code == "range"
    assert message == "expected counters of 0 or more, got -5.49756e+11 in 1.num_batches_tracked"


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, 10**12 + 1])
def test_whole_numbers_out_of_range_are_refused_without_overflow(model, value):
    assert refused(model, offsets=torch.tensor([value, 3]))[0] == "range"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e13])
def test_statistics_that_are_not_finite_or_far_out_of_range_are_refused(model, value):
    code, _ = refused(model, **{"1.running_mean": torch.tensor([0.0, value])})
    assert code == ("range" if value == 1e13 else "non_finite")


@pytest.mark.parametrize(("shift", "factor"), [(1e9, 0.0), (1e9, 1e9), (0.0, 1e-9)])
def test_hostile_buffers_pass_since_each_is_possible_by_itself(model, shift, factor):
    layout, state = WeightLayout(model), model.state_dict()
    rest, draws = layout.rest(state), torch.Generator().manual_seed(0)
    bad = hostile_buffers(rest, layout.variances, layout.counters, shift, factor, draws)
    check_update(state | bad, layout)
    assert torch.equal(bad["offsets"], state["offsets"])
