"""referee.controls: the control games are played against the named defenders alone."""

import pytest

from backfire.play import play
from scenarios.errors import ScenarioError
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
