"""The defender's own models are trained as the agents train theirs."""

import pytest

from backfire.play import play
from learning.training.engine import Engine
from small_games import ROOT, small


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
