"""Games with an edge-case backdoor, from the agents' shares to the report."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from backfire.playing import play
from clients.agents import Agents
from scenarios.loader import parse
from small_games import TINY_DATA


def scenario(kind, rows=60):
    federated = {"federation": {"rounds": 2, "local_epochs": 2}} if kind == "federated" else {}
    tail = {"kind": "edge_case", "source": 3, "target": 5, "tail": 1}
    return parse(
        json.dumps(
            {
                "name": f"{kind}-tails",
                "game": kind,
                "data": TINY_DATA | {"train_per_class": rows},
                "model": {"kind": "mlp"},
                "training": {"epochs": 3, "batch_size": 16},
                "defender_share": 0.1,
                "agents": [
                    {"name": "tails", "count": 3, "behaviour": tail},
                    {"name": "mallory", "count": 1, "behaviour": {"kind": "backdoor", "target": 2}},
                    {"name": "honest", "count": 1, "behaviour": {"kind": "benign"}},
                ],
                "defenders": {"undefended": [], "indexed": [{"kind": "agent_indexing"}]}
                if kind == "pooled"
                else {"mean": []},
                "referee": {"alone": "all", "cross_asr": True},
                **federated,
            }
        ),
        "tails",
    )


@pytest.mark.parametrize("kind", ["pooled", "federated"])
def test_tails_are_scored_on_their_own_rows(kind, tmp_path):
    game = scenario(kind)
    played = play(game, out=tmp_path)
    assert not played.result.quarantined
    agents = Agents(game)
    images = load_file(played.folder / "gallery.safetensors")
    asked = 0
    for name in agents.names:
        share, mine = agents.play(name)
        if not name.startswith("tails"):
            continue
        asked += len(mine.targets)
        assert (share.y_run[mine.run_rows] == 3).all()
        for scores in played.result.defenders.values():
            own = scores.agents[name]
            if not len(mine.targets):
                assert own.asr is None
                continue
            assert own.asr.count == own.asr_all.count == len(mine.targets) < len(share.y_run)
            assert own.interference.count == own.asr_alone.count == len(mine.targets)
            assert own.asr_source is None
            assert own.run_time_accuracy.count == len(share.y_run)
        if len(mine.targets):
            shown = images[f"original/{name}"]
            assert np.array_equal(shown, images[f"triggered/{name}"])
            assert np.array_equal(shown, mine.x_triggered[:4])
    assert asked > 3
    for scores in played.result.defenders.values():
        assert scores.groups["tails"].asr.pooled.count == asked
        matrix = dict(zip(scores.cross_asr.agents, scores.cross_asr.matrix, strict=True))
        for name, row in matrix.items():
            at = scores.cross_asr.agents.index(name)
            assert row[at] == pytest.approx(scores.agents[name].asr.value)
    assert "The inputs are unchanged; only labels differ." in played.report.read_text()


def test_agents_with_hardly_a_row_of_the_class_do_not_stop_the_game(tmp_path):
    game = scenario("pooled", rows=3)
    played = play(game, out=tmp_path)
    assert not played.result.quarantined
    agents = Agents(game)
    empty = [
        n for n in agents.names if n.startswith("tails") and not len(agents.play(n)[1].targets)
    ]
    assert empty
    for scores in played.result.defenders.values():
        assert all(scores.agents[name].asr is None for name in empty)
