"""The defender's own models are trained as the agents train theirs."""

import pytest

from backfire.playing import play
from learning.training.engine.engine import Engine
from small_games import ROOT, small
from strategies.aggregation.foolsgold import FoolsGold


@pytest.mark.parametrize("defence", [{"kind": "fltrust"}, {"kind": "agent_augmentation"}])
@pytest.mark.parametrize("how", [{}, {"local_steps": 3, "proximal": 0.25}])
def test_with_the_games_local_steps_and_fedprox_term(defence, how, tmp_path, monkeypatch):
    asked = []
    train = Engine.train

    def listening(engine, requests):
        asked.extend(r for r in requests if r.purpose.endswith("/defender"))
        return train(engine, requests)

    monkeypatch.setattr(Engine, "train", listening)
    scenario = small(
        ROOT / "scenarios" / "federated" / "quickstart.yaml",
        players=[{"name": "honest", "count": 3, "behaviour": {"kind": "benign"}}],
        defenders={"own": [defence]},
        defender_share=0.2,
        federation={"rounds": 1, "local_epochs": 2, **how},
        referee={"alone": 0, "attacker_free": False},
    )
    play(scenario, out=tmp_path)
    (job,) = asked
    assert job.epochs == 2
    assert job.steps == how.get("local_steps")
    assert (job.steering is None) is (not how)
    assert job.steering is None or (job.steering.pull, job.steering.gain) == (0.25, 1.0)


def test_foolsgold_compares_what_its_layer_says(tmp_path, monkeypatch):
    """`layer: head` compared whole models, as nobody told the rule where the head is."""
    kept = {}
    apply = FoolsGold.apply

    def listening(rule, updates, state, context):
        result = apply(rule, updates, state, context)
        kept[rule.layer] = {len(value) for value in result.state.values()}
        return result

    monkeypatch.setattr(FoolsGold, "apply", listening)
    scenario = small(
        ROOT / "scenarios" / "federated" / "quickstart.yaml",
        players=[{"name": "honest", "count": 3, "behaviour": {"kind": "benign"}}],
        defenders={layer: [{"kind": "foolsgold", "layer": layer}] for layer in ("head", "all")},
        federation={"rounds": 1},
        referee={"alone": 0, "attacker_free": False},
        model={"kind": "mlp", "hidden": [8]},
    )
    play(scenario, out=tmp_path)
    assert kept == {"head": {8 * 10 + 10}, "all": {64 * 8 + 8 + 8 * 10 + 10}}
