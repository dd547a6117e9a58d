"""Case tiny-classes: classes of one or two rows, or of equal rows, in a played game and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from backfire.playing import play
from learning.pool import Block, Pool
from scenarios.loader import parse
from strategies.filtering.activation_clustering import ActivationClustering
from strategies.filtering.spectral_signatures import spectral_scores

SCENARIO = {
    "name": "tiny-classes",
    "data": {"kind": "digits", "train_rows": 24, "test_rows": 50},
    "model": {"kind": "softmax"},
    "training": {"epochs": 2},
    "referee": {"alone": 0, "attacker_free": False},
    "agents": [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {
            "name": "mallory",
            "behaviour": {
                "kind": "backdoor", "poison_rate": 0.5, "target": 0, "trigger": {"kind": "patch"},
            },
        },
    ],
    "defenders": {
        "spectral": [{"kind": "spectral_signatures"}],
        "clustering": [{"kind": "activation_clustering"}],
    },
}  # fmt: skip


def test_a_game_of_two_rows_a_class_is_played_and_what_cannot_be_judged_is_said(tmp_path: Path):
    result = play(parse(json.dumps(SCENARIO), "tiny.yaml"), out=tmp_path).result
    spectral, clustering = (result.defenders[name].filters[0] for name in SCENARIO["defenders"])
    assert 0 <= result.defenders["spectral"].clean_accuracy.value <= 1
    assert spectral.removed <= 3
    skipped = [note for note in clustering.notes if note.endswith("without two clusters, skipped")]
    assert len(skipped) >= 5  # of ten classes, of 24 rows
    assert all(note.split(": ")[1].split()[0] in {"0", "1", "2"} for note in skipped)


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_one_or_two_rows_has_no_spectral_score(count):
    features = np.random.default_rng(0).normal(size=(count + 9, 6))
    labels = np.repeat([1, 0], [count, 9])
    scores = spectral_scores(features, labels)
    assert scores[:count].tolist() == [0.0] * count
    centred = features[count:] - features[count:].mean(0)
    top = np.linalg.svd(centred, full_matrices=False)[2][0]
    np.testing.assert_allclose(scores[count:], (centred @ top) ** 2, rtol=1e-11)


def test_equal_rows_are_left_and_told(play, build, defender):
    block = build.pool().blocks[1]
    alike = Block("ada", 0, np.full_like(block.x, 0.5), np.zeros_like(block.y))
    verdict = play(ActivationClustering().inspect(Pool((alike,), build.classes), defender))
    assert not len(verdict.removed)
    assert verdict.notes[0] == f"class 0: {len(block.y)} rows without two clusters, skipped"
    assert np.isfinite(verdict.scores).all()
