"""The update attack `statistics`: honest weights, hostile buffers that admission cannot refuse."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from backfire.playing import play
from clients.conformance import check_attack
from clients.crafting import crafted
from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.sign_flip import SignFlip
from clients.update_attacks.statistics import Statistics
from learning.weights import WeightLayout
from server.wire.updates import check_update
from small_games import ROOT, small


def handed_over(attack, model):
    """Return the state before and after an agent with this attack has trained."""
    layout = WeightLayout(model)
    own = {name: value + 1 for name, value in model.state_dict().items()}
    start = layout.flat(model.state_dict())
    update = layout.flat(own) - start
    seat = View(agent="m", seed=0, round=2, start=start, own=update, seen=update[None])
    return layout, own, crafted(attack, seat, layout, own)


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 40), nn.BatchNorm1d(40))


def test_it_conforms():
    check_attack(Statistics())
    check_attack(Statistics(shift=0.0, factor=1e9))


@pytest.mark.parametrize("fields", [{}, {"shift": 1e9, "factor": 0.0}, {"factor": 1e9}])
def test_its_weights_are_honest_and_its_buffers_are_admitted(fields, model):
    layout, own, state = handed_over(Statistics(**fields), model)
    check_update(state, layout)
    for name in layout.weights:
        torch.testing.assert_close(state[name], own[name])
    for name in layout.buffers:
        assert not torch.equal(state[name], own[name])


def test_means_go_far_up_and_down_and_variances_are_multiplied(model):
    _, own, state = handed_over(Statistics(shift=100.0, factor=0.5), model)
    away = state["1.running_mean"] - own["1.running_mean"]
    assert set(away.tolist()) == {-100.0, 100.0}
    assert torch.equal(state["1.running_var"], own["1.running_var"] / 2)
    _, own, state = handed_over(Statistics(shift=0.0, factor=1.0), model)
    for name in ("1.running_mean", "1.running_var"):
        assert torch.equal(state[name], own[name])


def test_other_attacks_hand_over_the_buffers_that_they_trained(model):
    layout, own, state = handed_over(SignFlip(), model)
    for name in layout.buffers:
        assert torch.equal(state[name], own[name])


def test_it_trains_on_its_clean_rows():
    assert Statistics().plan(None).honest


@pytest.mark.parametrize(
    "made",
    [
        lambda given: {**given, "1.running_mean": torch.full((40,), torch.nan)},
        lambda given: {**given, "1.running_mean": torch.zeros(3)},
        lambda given: {name: value.double() for name, value in given.items()},
        lambda given: {},
    ],
)
def test_buffers_that_are_not_the_models_are_refused(made, model):
    class Broken(SignFlip):
        def buffers(self, before, trained, layout):
            return made(trained)

    with pytest.raises(ValueError, match="expected finite buffers of the model from sign_flip"):
        handed_over(Broken(), model)
    with pytest.raises(AssertionError, match="expected"):
        check_attack(Broken())


def test_attacks_need_no_buffers_unless_they_say_so():
    assert not UpdateAttack.needs_buffers
    assert Statistics.needs_buffers


def game(model, rounds=1, **defenders):
    honest = {"name": "honest", "count": 5, "behaviour": {"kind": "benign"}}
    behaviour = {"kind": "label_flip"}
    mallory = {"name": "mallory", "behaviour": behaviour, "update": {"kind": "statistics"}}
    return small(
        ROOT / "scenarios" / "federated" / "quickstart.yaml",
        players=[honest, mallory],
        defenders=defenders,
        federation={"rounds": rounds, "local_epochs": 1},
        referee={"alone": 0, "attacker_free": False},
        model={"kind": model},
    )


def test_in_a_game_it_ruins_the_plain_mean_and_nothing_else(tmp_path):
    """Case bn-statistics, played: the report said that Krum had removed the cheater."""
    told = game("resnet32", mean=[], median=[{"kind": "median"}], krum=[{"kind": "krum", "f": 1}])
    played = play(told, out=tmp_path)
    state = load_file(played.folder / "model.safetensors")

    def largest(defender):
        own = [v for k, v in state.items() if k.startswith(defender) and k.endswith("running_mean")]
        return max(float(np.abs(value).max()) for value in own)

    assert largest("mean/") > 1e4
    assert largest("median/") < 100
    assert largest("krum/") < 100
    assert not played.result.quarantined
    assert not any("does nothing" in note for note in played.result.notes)


def test_on_a_model_without_buffers_the_run_says_that_it_does_nothing(tmp_path):
    played = play(game("small_cnn", mean=[]), out=tmp_path)
    line = (
        "the update attack statistics of mallory does nothing: the model small_cnn has no buffers"
    )
    assert line in played.result.notes
