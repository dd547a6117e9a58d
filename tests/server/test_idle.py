"""A game says which attackers did nothing, and of those that act it says nothing."""

import pytest
from rich.console import Console

from backfire.cli.tables import show
from backfire.playing import play
from scenarios.loader import parse

BASE = """\
name: idle
data: {kind: synthetic, classes: 4, train_per_class: 24, test_per_class: 6}
model: {kind: softmax}
training: {epochs: 1, batch_size: 16}
referee: {alone: 0, attacker_free: false}
agents:
  - {name: honest, behaviour: {kind: benign}}
  - name: mallory
    count: 2
    behaviour: {kind: backdoor, poison_rate: 0.3, target: 0, trigger: {kind: patch}}
defenders:
  undefended: []
"""
M = "agents.mallory."
FEDERATED = ["game=federated", "federation={rounds: 3}", "defenders={mean: [{kind: mean}]}",
             "training={batch_size: 16}"]  # fmt: skip
BOTH = "mallory, 2 of 2 agents (mallory-01, ...): "


def notes(tmp_path, *overrides):
    result = play(parse(BASE, "idle", overrides), out=tmp_path).result
    assert all(any(n[1:] in sentence for sentence in result.verdict) for n in result.notes)
    return result.notes


@pytest.mark.parametrize("overrides", [[], [M + "behaviour.poison_rate=0"], FEDERATED,
                                       [M + "behaviour={kind: label_flip}"],
                                       [*FEDERATED, M + "window={first: 3}"]])  # fmt: skip
def test_of_attackers_that_act_as_they_were_told_nothing_is_said(tmp_path, overrides):
    """A rate of 0 is an intention; one that comes to no row is none."""
    assert notes(tmp_path, *overrides) == ()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([M + "behaviour.poison_rate=0.01"],
         BOTH + "no row poisoned, as the rate comes to none of its rows"),
        ([M + "behaviour.poison_rate=0.01", M + "count=1"],
         "mallory: no row poisoned, as the rate comes to none of its rows"),
        ([M + "behaviour.trigger={kind: random_badnet, epsilon: 0}"],
         BOTH + "the trigger changes none of its run-time inputs"),
        ([*FEDERATED, M + "window={first: 3}", "federation.participation=0.3", "seed=1"],
         "it cheated in no round, as it was sampled for none in its window"),
    ],
)  # fmt: skip
def test_what_did_nothing_is_told(tmp_path, overrides, told):
    assert any(note.endswith(told) for note in notes(tmp_path, *overrides))


def test_inputs_that_are_all_of_the_target_are_told(tmp_path):
    """Two agents with a class each: of the two targets one is the attacker's only class."""
    alone = ["data.classes=2", "defender_share=0", M + "count=1"]
    alone += ["partition={kind: shards, shards: 1}"]
    found = [notes(tmp_path, *alone, M + f"behaviour.target={label}") for label in (0, 1)]
    told = "all of its run-time inputs are of the target label, so that its ASR counts none"
    assert sorted(found, key=len)[0] == ()
    assert f"mallory: {told}" in sorted(found, key=len)[1]


def test_notes_stand_on_the_terminal(tmp_path):
    played = play(parse(BASE, "idle", [M + "behaviour.poison_rate=0.01"]), out=tmp_path)
    console = Console(record=True, width=200)
    show(played.result, None, console)
    (note,) = played.result.notes
    assert f"{note[:1].upper()}{note[1:]}" in console.export_text()


def test_epochs_that_no_round_reads_are_told(tmp_path):
    (note,) = notes(tmp_path, *FEDERATED, "training.epochs=7", "federation.local_epochs=2")
    assert note.startswith("training.epochs = 7 was not read: ")
    assert note.endswith("federation.local_epochs = 2 in each round")


def test_epochs_are_read_by_who_crafts_against_a_surrogate(tmp_path):
    crafts = "behaviour={kind: total_gradient, rounds: 1}"
    assert notes(tmp_path, *FEDERATED, "training.epochs=2", M + crafts) == ()
