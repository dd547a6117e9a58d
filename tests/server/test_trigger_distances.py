"""Cosine distances of triggers, validation accuracy and group robust accuracy of S0's tables."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from backfire.evidence.series import Series, bounds_of
from backfire.playing import play
from learning.triggers.base import Pattern, TriggerKey
from scenarios.loader import parse
from server.referee.scoring.triggers import cosine_distance, distance

GAME = """
name: distances
data: {{kind: synthetic, classes: 4, channels: 3, height: 8, width: 8, train_per_class: 40}}
model: {{kind: softmax}}
training: {{epochs: 6, validation_share: {held}, early_stopping: {stop}}}
agents:
  - {{name: honest, behaviour: {{kind: benign}}}}
  - name: mallory
    count: 4
    behaviour: {{kind: backdoor, poison_rate: 0.5, target: distinct, trigger: {trigger}}}
defenders: {{undefended: []}}
referee: {{alone: 0, attacker_free: false}}
"""


def played(tmp_path, trigger="{kind: random_badnet}", held="0.3", stop="null"):
    scenario = parse(GAME.format(trigger=trigger, held=held, stop=stop), "distances")
    return scenario, play(scenario, out=tmp_path).result


def test_cosine_distance_is_scipys():
    draws = np.random.default_rng(0)
    for _ in range(5):
        a, b = draws.normal(size=(2, 3, 4, 4)).astype(np.float32)
        want = cosine(a.ravel().astype(float), b.ravel().astype(float))
        assert cosine_distance(a, b) == pytest.approx(want, abs=1e-12)
    assert cosine_distance(a, np.zeros_like(a)) is None


def test_distances_of_shape_and_of_shape_and_colour():
    mask = np.array([[[[1, 1, 0, 0]]]], np.float32)
    half = np.array([[[[1, 0, 1, 0]]]], np.float32)
    apart = distance(Pattern(mask, mask * 0.5), Pattern(half, half * np.float32([1, 1, 0, 0])))
    assert apart.shape == pytest.approx(0.5)
    assert apart.shape_colour == pytest.approx(1 - 1 / np.sqrt(2))


@pytest.mark.parametrize("kind", ["random_badnet", "orthogonal_badnet"])
def test_the_result_tells_each_triggers_distance_from_the_first_one(tmp_path, kind):
    scenario, result = played(tmp_path, f"{{kind: {kind}}}")
    honest, *cheats = result.roster
    assert honest.trigger_distance is None
    assert cheats[0].trigger_distance.shape == pytest.approx(0, abs=1e-9)
    trigger = scenario.agents[1].behaviour.trigger
    first, *others = (
        trigger.draw((3, 8, 8), 1, TriggerKey(0, record.name, "mallory", index))
        for index, record in enumerate(cheats)
    )
    for record, own in zip(cheats[1:], others, strict=True):
        colours = [(one.value * one.mask).astype(float).ravel() for one in (first, own)]
        masks = [one.mask.astype(float).ravel() for one in (first, own)]
        assert record.trigger_distance.shape == pytest.approx(cosine(*masks), abs=1e-9)
        assert record.trigger_distance.shape_colour == pytest.approx(cosine(*colours), abs=1e-6)


@pytest.mark.parametrize("stop", ["null", "{patience: 2, monitor: validation_accuracy}"])
def test_validation_accuracy_is_that_of_the_weights_kept(tmp_path, stop):
    scores = played(tmp_path, stop=stop)[1].defenders["undefended"]
    curve = [point["validation_accuracy"] for point in scores.curves[0].points]
    kept = curve[-1] if stop == "null" else max(curve)
    assert scores.validation_accuracy.value == pytest.approx(kept, abs=1e-9)
    assert 0.15 < scores.validation_accuracy.count / 160 < 0.45


def test_without_held_out_rows_there_is_no_validation_accuracy(tmp_path):
    assert played(tmp_path, held="0")[1].defenders["undefended"].validation_accuracy is None


def test_group_robust_accuracy_over_all_inputs_is_the_mean_over_agents(tmp_path):
    scores = played(tmp_path)[1].defenders["undefended"]
    own = [one.robust_accuracy_all.value for one in scores.agents.values() if one.asr is not None]
    assert scores.malicious.robust_accuracy_all.mean == pytest.approx(np.mean(own))
    assert scores.malicious.robust_accuracy_all.agents == 4


def test_distances_of_sweeps_may_exceed_one():
    assert bounds_of("trigger_shape_distance") == (0, 2)
    assert Series({}, "", "", "", "trigger_shape_distance", {0: 1.06, 1: 0.9}).estimate.n == 2
