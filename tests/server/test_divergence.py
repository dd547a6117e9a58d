"""Who diverged is told, with the round and epoch: in the result and on the terminal."""

import io
import json
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, RecordDict
from rich.console import Console

from backfire.cli.tables import show
from backfire.playing import play
from learning.wire import TRAINING, pack, take_divergence, with_divergence
from scenarios.loader import parse
from server.games.divergence import told_divergence, told_of_defenders, with_round
from server.games.federated_state import FederationFacts, FederationState, put_together, taken_apart

AGENTS = [
    {"name": "honest", "count": 3, "behaviour": {"kind": "benign"}},
    {"name": "mallory", "behaviour": {"kind": "label_flip"}},
]


def scenario(game, lr, **federation):
    """Case silent-divergence, with fewer rows."""
    told = {
        "name": "diverged",
        "game": game,
        "data": {"kind": "digits", "train_rows": 120, "test_rows": 50},
        "model": {"kind": "mlp"},
        "training": {
            **({"epochs": 3} if game != "federated" else {}),  # rounds have their own
            "batch_size": 2,
            "optimizer": {"kind": "sgd", "lr": lr, "weight_decay": 0},
        },
        "referee": {"alone": 0, "attacker_free": False},
        "agents": AGENTS,
        "defenders": {"undefended": []},
    }
    if game == "federated":
        told["federation"] = {"rounds": 2, "local_epochs": 2, **federation}
    if lr > 1:
        told["training"]["optimizer"]["weight_decay"] = 10
    return parse(json.dumps(told), "diverged")


def on_terminal(result):
    out = Console(file=io.StringIO(), width=400)
    show(result, None, out)
    return out.file.getvalue()


def test_a_federated_game_says_who_diverged_and_when(tmp_path):
    played = play(scenario("federated", 100), out=tmp_path)
    (note,) = played.result.notes
    assert note.startswith(
        "local training diverged (loss or weights not finite): honest-01 in epoch 1 of round 1 and "
        "in 1 more, honest-02 in epoch 1 of round 1"
    )
    assert "mallory in epoch" in note
    assert note[0].upper() + note[1:] in on_terminal(played.result)
    assert json.loads((played.folder / "result.json").read_text())["notes"] == [note]


def test_a_pooled_game_says_whose_model_diverged(tmp_path):
    played = play(scenario("pooled", 100), out=tmp_path)
    first, second = played.result.notes
    assert first.startswith("training of the defender undefended diverged, in epoch 1 at the")
    assert first.endswith("in attacked")
    assert second.startswith("a training diverged in epoch 1 ")
    assert "Training of the defender undefended diverged" in on_terminal(played.result)


@pytest.mark.parametrize("game", ["pooled", "federated"])
def test_a_game_in_which_nothing_diverges_has_no_such_note(game, tmp_path):
    played = play(scenario(game, 0.05), out=tmp_path)
    assert played.result.notes == ()
    assert "diverged (" not in on_terminal(played.result)


def test_agents_are_counted_over_rounds_and_few_are_named():
    known = with_round({}, {"honest-01": 2}, 3)
    known = with_round(known, {"honest-01": 1, "mallory": 1}, 5)
    assert known == {"honest-01": (3, 2, 2), "mallory": (5, 1, 1)}
    (line,) = told_divergence(known, scenario("federated", 0.1))
    assert ": honest-01 in epoch 2 of round 3 and in 1 more, mallory in epoch 1 of round 5;" in line
    (line,) = told_divergence(known, scenario("federated", 0.1, local_steps=4))
    assert ": honest-01 within 4 steps of round 3" in line
    assert told_divergence({}, scenario("federated", 0.1)) == []


def test_only_worlds_that_diverged_are_named():
    good, bad = SimpleNamespace(diverged=0), SimpleNamespace(diverged=4)
    outcome = lambda *models: SimpleNamespace(  # noqa: E731
        predictor=SimpleNamespace(shared=models, by_agent={})
    )
    outcomes = {("a", "attacked"): outcome(good), ("a", "attacker_free"): outcome(good, bad)}
    assert told_of_defenders(outcomes) == [
        "training of the defender a diverged, in epoch 4 at the earliest, in attacker_free"
    ]


def test_the_word_travels_beside_the_model_and_is_taken_out():
    content = with_divergence(pack({}), 7)
    assert take_divergence(content) == 7
    assert TRAINING not in content
    assert with_divergence(pack({}), 0) == pack({})
    assert take_divergence(content) == 0


@pytest.mark.parametrize("said", [0, -1, 10**7, 1.0, "1", True, [1]])
def test_a_word_that_is_no_epoch_is_ignored(said):
    content = RecordDict({TRAINING: ConfigRecord({"diverged": said})})
    assert take_divergence(content) == 0
    assert not content


def test_who_diverged_survives_a_checkpoint():
    known = {"honest-01": (3, 2, 2)}
    facts, tensors = taken_apart(FederationState(4, {}, {}, diverged=known))
    assert (
        put_together(FederationFacts.model_validate_json(facts.model_dump_json()), tensors).diverged
        == known
    )
