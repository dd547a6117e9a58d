"""referee.controls: the control games are played against the named defenders alone."""

import pytest

from backfire.playing import play
from learning.training.engine.engine import Engine
from scenarios.text.errors import ScenarioError
from small_games import ROOT, small

GROUP = {
    "name": "mallory",
    "count": 2,
    "behaviour": {"kind": "backdoor", "poison_rate": 0.5, "target": "distinct"},
}
DEFENDERS = {
    "pooled": {"undefended": [], "indexed": [{"kind": "agent_indexing"}]},
    "federated": {"undefended": [], "median": [{"kind": "median"}]},
}


def game(kind: str, **referee):
    file = "quickstart.yaml" if kind == "pooled" else "federated/quickstart.yaml"
    changes = {"defenders": DEFENDERS[kind], "referee": {"alone": 1, "cross_asr": False} | referee}
    return small(ROOT / "scenarios" / file, players=[GROUP], **changes)


@pytest.mark.parametrize("kind", ["pooled", "federated"])
def test_controls_for_some_leave_all_other_scores_as_they_were(kind, tmp_path):
    everywhere = play(game(kind), out=tmp_path).result
    some = play(game(kind, controls=["undefended"]), out=tmp_path).result
    other = next(name for name in DEFENDERS[kind] if name != "undefended")
    assert some.defenders["undefended"] == everywhere.defenders["undefended"]
    with_controls, without = everywhere.defenders[other], some.defenders[other]
    assert with_controls.malicious.asr_alone is not None
    assert with_controls.clean_accuracy_attacker_free is not None
    assert without.malicious.asr_alone is None
    assert without.malicious.asr_untrained is None
    assert without.clean_accuracy_attacker_free is None
    assert without.malicious.asr == with_controls.malicious.asr
    assert without.clean_accuracy == with_controls.clean_accuracy
    assert some.trainings < everywhere.trainings


def test_a_control_for_nobody_is_a_mistake_with_its_place():
    with pytest.raises(ScenarioError, match=r"referee\.controls\[0\].*undefended, indexed.*'all'"):
        game("pooled", controls=["all"])


@pytest.mark.parametrize("repeated", ["reference", "all"])
@pytest.mark.parametrize("controls", [None, ["indexed"]])
def test_whose_games_are_trained_again(repeated, controls):
    scenario = game("pooled", repeats=3, repeated=repeated, controls=controls)
    worlds = {"attacked": True, "alone/m": True}
    for defender in DEFENDERS["pooled"]:
        controlled = controls is None or defender in controls
        again = controlled and (repeated == "all" or defender == "undefended")
        assert scenario.plays(defender, "attacked")
        for world in worlds:
            assert scenario.plays(defender, f"repeat/2/{world}") == again
            assert not scenario.plays(defender, f"repeat/3/{world}")
        assert scenario.plays(defender, "alone/m") == controlled


@pytest.mark.parametrize("kind", ["pooled", "federated"])
def test_trainings_of_the_same_games_leave_the_game_itself_as_it_was(kind, tmp_path):
    once = play(game(kind), out=tmp_path)
    again = play(game(kind, repeats=3), out=tmp_path)
    models = [(one.folder / "model.safetensors").read_bytes() for one in (once, again)]
    assert models[0] == models[1]
    before, after = (one.result.defenders for one in (once, again))
    other = next(name for name in DEFENDERS[kind] if name != "undefended")
    assert before[other] == after[other]
    one, three = before["undefended"].malicious, after["undefended"].malicious
    assert (one.asr, one.asr_all) == (three.asr, three.asr_all)
    assert before["undefended"].clean_accuracy == after["undefended"].clean_accuracy
    assert (one.comparison.trainings, three.comparison.trainings) == (1, 3)
    assert after[other].malicious.comparison.trainings == 1
    assert (
        after["undefended"].malicious.asr_untrained.pooled.count == one.asr_untrained.pooled.count
    )


@pytest.mark.parametrize("kind", ["pooled", "federated"])
def test_each_training_has_a_start_and_an_order_of_its_own(kind, tmp_path, monkeypatch):
    seen = {}

    def train(self, requests):
        for request in requests:
            start = self.initial() if request.start is None else request.start
            weights = next(start.module.parameters()).detach().numpy().tobytes()
            seen.setdefault((request.purpose, weights), 0)
        return whole(self, requests)

    name = "train" if kind == "pooled" else "states_told"
    whole = getattr(Engine, name)
    monkeypatch.setattr(Engine, name, train)
    play(game(kind, repeats=2), out=tmp_path)
    again = [key for key in seen if key[0].endswith("/repeat/1")]
    first = [key for key in seen if "repeat" not in key[0]]
    assert again
    assert {purpose.removesuffix("/repeat/1") for purpose, _ in again} <= {p for p, _ in first}
    assert not {weights for _, weights in again} & {weights for _, weights in first}
