"""The filters and hooks of S3 in whole games, by the real engine and on one pool."""

import pytest
import torch

from backfire.playing import play
from scenarios.scenario import Scenario

DEFENDERS = {
    "undefended": [],
    "loss": [{"kind": "loss_defence", "share": 0.1}],
    "sever": [{"kind": "sever", "rounds": 2, "share": 0.05, "per": "class"}],
    "sever_all": [{"kind": "sever", "rounds": 1, "share": 0.05, "layers": "all", "per": "class"}],
    "influence": [{"kind": "influence", "share": 0.1}],
    "influence_all": [{"kind": "influence", "layers": "all", "curvature": "gauss_newton"}],
    "labels": [{"kind": "nearest_labels"}],
    "strip": [{"kind": "strip", "images": 10}],
    "maxup": [{"kind": "maxup"}],
    "patches": [{"kind": "backdoor_adversarial_training"}, {"kind": "poison_patches"}],
}
MODELS = {"mlp": {"hidden": [16]}, "preact_resnet18": {}}


def scenario(defenders, model="mlp", **more):
    fields = {
        "name": "filters",
        "data": {"kind": "digits", "train_rows": 400, "test_rows": 60},
        "model": {"kind": model, **MODELS[model]},
        "training": {"epochs": 6},
        "defender_share": 0.4,
        "agents": [
            {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
            {
                "name": "noisy",
                "behaviour": {"kind": "label_flip", "mode": "next", "poison_rate": 0.6},
            },
        ],
        "defenders": {name: DEFENDERS[name] for name in defenders},
        "referee": {"alone": 0, "attacker_free": False},
    }
    return Scenario.model_validate({**fields, **more})


def test_they_play_and_find_flipped_labels(tmp_path):
    result = play(scenario(DEFENDERS), out=tmp_path).result
    found = {}
    for name, defences in DEFENDERS.items():
        scores = result.defenders[name]
        assert scores.defences == tuple(defence["kind"] for defence in defences)
        found[name] = scores.filters[0] if scores.filters else None
        assert len(scores.filters) == (name not in ("undefended", "maxup", "patches"))
    for name in ("loss", "sever", "sever_all", "influence", "influence_all", "labels"):
        rows, caught = found[name], found[name].true_positives
        assert rows.auroc > 0.75, name
        assert caught > 2 * rows.removed * rows.poisoned / 320, name  # than by chance


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_model_with_batchnorm_is_judged_by_all_its_weights(tmp_path):
    game = scenario(
        ["sever_all"],
        "preact_resnet18",
        training={"epochs": 1},
        data={"kind": "digits", "train_rows": 60, "test_rows": 20},
        compute={"device": "cuda"},
    )
    scores = play(game, out=tmp_path).result.defenders["sever_all"]
    assert scores.filters[0].removed >= 0
