"""Cases that users of this and of like programs met, and that no change may lose."""

import json

import pytest
import torch

from backfire.playing import PlayError, play
from scenarios.loader import parse
from scenarios.text.errors import ScenarioError
from strategies.aggregation.base import Context
from strategies.aggregation.foolsgold import FoolsGold
from strategies.aggregation.krum import Krum
from strategies.aggregation.updates import Updates


def updates_of(rows):
    names = tuple(f"agent-{at}" for at in range(len(rows)))
    return Updates(torch.tensor(rows).double(), torch.ones(len(rows)).double(), names)


def scenario(game="federated", agents=3, defenders=None, **changes):
    told = {
        "name": "case",
        "game": game,
        "data": {"kind": "digits", "train_rows": 60, "test_rows": 50},
        "model": {"kind": "softmax"},
        "referee": {"alone": 0, "attacker_free": False},
        "agents": [{"name": "honest", "count": agents, "behaviour": {"kind": "benign"}}],
        "defenders": defenders or {"undefended": []},
    }
    if game == "federated":
        told["federation"] = {"rounds": 1, "local_epochs": 1}
    return parse(json.dumps(told | changes), "case")


def test_foolsgold_of_copies():
    """Case foolsgold-copies."""
    copies = FoolsGold().aggregate(updates_of([[1, 2, 3]] * 3), {}, Context())
    assert copies.trust.tolist() == [0, 0, 0]
    assert copies.notes == ("all histories are copies: the model stays",)
    assert FoolsGold().aggregate(updates_of([[1, 2, 3]]), {}, Context()).trust.tolist() == [1]
    two = FoolsGold().aggregate(updates_of([[1, 2, 3], [1, 2, 3], [-3, 0, 1]]), {}, Context())
    assert torch.isfinite(two.trust).all()
    assert max(two.trust[:2]) < two.trust[2]


def test_krum_with_too_many_suspected_agents_and_with_ties():
    """Case krum-bounds."""
    assert scenario(agents=6, defenders={"krum": [{"kind": "krum", "f": 1}]})
    with pytest.raises(ScenarioError, match=r"2f \+ 3 = 7 contributions or more, but got 6"):
        scenario(agents=6, defenders={"krum": [{"kind": "krum", "f": 2}]})
    tied = updates_of([[0.0, 1], [0, -1], [1, 0], [-1, 0], [30, 30]])
    assert Krum(f=1).aggregate(tied, {}, Context()).selected.tolist() == [True] + [False] * 4


def one_row(game):
    changes = {"model": {"kind": "resnet9"}, "training": {"batch_size": 1, "epochs": 1}}
    return scenario(game, **changes)


def test_a_batch_of_one_row_is_told_in_one_line_that_names_batchnorm(tmp_path):
    """Case batchnorm-one-row."""
    line = "BatchNorm needs batches of at least 2 rows"
    with pytest.raises(PlayError, match=line) as error:
        play(one_row("pooled"), out=tmp_path)
    assert "training.batch_size 1" in str(error.value)
    result = play(one_row("federated"), out=tmp_path).result
    assert len(result.quarantined) == 3
    assert all(line in one.message for one in result.quarantined)
    (entry,) = result.rounds["undefended"]
    assert entry.skipped
