"""Detection, fallbacks and notes in games that are played in rounds."""

import json

import pytest
from flwr.app import Message, RecordDict

from backfire.playing import play
from backfire.runtimes.local import LocalGrid
from server.referee.results import GameResult
from small_games import ROOT, small

PLAYERS = [
    {"name": "honest", "count": 4, "behaviour": {"kind": "benign"}},
    {
        "name": "flipper",
        "behaviour": {"kind": "benign"},
        "update": {"kind": "sign_flip", "scale": 50.0},
        "window": {"first": 2},
    },
]
DEFENDERS = {
    "mean": [],
    "median": [{"kind": "median"}],
    "multi-krum": [{"kind": "multi_krum", "f": 1}],
    "fltrust": [{"kind": "fltrust"}],
    "clipped": [{"kind": "norm_clipping"}],
    "augmented": [{"kind": "agent_augmentation", "agents": 2}, {"kind": "krum", "f": 1}],
}


def scenario(defenders, rounds=3, players=PLAYERS, changes=None, **federation):
    return small(
        ROOT / "scenarios" / "federated" / "quickstart.yaml",
        players=players,
        defenders=defenders,
        federation={"rounds": rounds, "local_epochs": 1, **federation},
        referee={"alone": 0, "attacker_free": False},
        **(changes or {}),
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return play(scenario(DEFENDERS), out=tmp_path_factory.mktemp("played")).result


def test_rules_that_judge_nobody_have_no_detection(result):
    for name in ("mean", "median"):
        assert result.defenders[name].detection is None
        assert all(entry.detection is None for entry in result.rounds[name])


@pytest.mark.parametrize("name", ["multi-krum", "fltrust", "augmented"])
def test_each_round_counts_whom_the_rule_did_not_take(name, result):
    for entry in result.rounds[name]:
        removed = set(entry.admitted) - set(entry.selected)
        cheats = {"flipper"} if entry.round >= 2 else set()
        assert set(entry.detection.cheated) == cheats
        assert entry.detection.precision.count == len(removed)
        assert entry.detection.precision.hits == len(removed & cheats)
        assert entry.detection.recall.count == len(cheats)
    total = result.defenders[name].detection
    assert (total.rounds, total.updates, total.cheating) == (3, 15, 2)
    own = total.by_agent["flipper"]
    assert (own.judged, own.cheated) == (3, 2)


def test_an_update_that_is_turned_and_fifty_times_as_long_is_caught(result):
    total = result.defenders["multi-krum"].detection
    assert total.recall.value == 1
    assert total.by_agent["flipper"].caught == 2
    assert result.defenders["clipped"].detection.auroc == 1


def test_fltrust_says_how_much_it_trusts_each(result):
    for entry in result.rounds["fltrust"]:
        weights = entry.detection.weights
        assert set(entry.selected) == {name for name, weight in weights.items() if weight > 0}


def test_the_defenders_virtual_agent_is_not_counted(result):
    total = result.defenders["augmented"].detection
    assert set(total.by_agent) == {agent.name for agent in result.roster}


def test_a_rule_that_only_weighs_has_an_auroc_alone(result):
    total = result.defenders["clipped"].detection
    assert total.precision is None
    assert total.auroc is not None
    assert all(set(e.detection.weights) == set(e.admitted) for e in result.rounds["clipped"])


def test_a_result_keeps_its_detection_and_older_results_are_read(result):
    stored = result.model_dump_json()
    assert GameResult.model_validate_json(stored) == result
    older = json.loads(stored)
    for scores in older["defenders"].values():
        del scores["detection"]
    for rounds in older["rounds"].values():
        for entry in rounds:
            del entry["detection"], entry["fallback"]
    read = GameResult.model_validate_json(json.dumps(older))
    assert read.defenders["multi-krum"].detection is None


class Missing(LocalGrid):
    """An agent hands over nothing in the second round."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self._cohort = None

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.message_type != "train.update":
            return reply
        late = int(str(message.content.config_records["ask"]["round"])) == 2
        gone = self._nodes[message.metadata.dst_node_id] == "honest-01" and late
        return Message(RecordDict(), reply_to=message) if gone else reply


@pytest.mark.parametrize("fallback", ["skip", "median"])
def test_a_round_that_drop_outs_make_infeasible_is_skipped_or_falls_back(fallback, tmp_path):
    game = scenario({"krum": [{"kind": "krum", "f": 1}]}, evaluate_every=1, fallback=fallback)
    rounds = play(game, out=tmp_path, wrap=Missing).result.rounds["krum"]
    assert [entry.skipped for entry in rounds] == [False, fallback == "skip", False]
    assert [entry.fallback for entry in rounds] == ["", fallback.replace("skip", ""), ""]
    assert [entry.detection is None for entry in rounds] == [False, True, False]
    start = {"skip": "skipped: krum", "median": "median instead: krum"}[fallback]
    assert rounds[1].note.startswith(start)
    assert [entry.note for entry in (rounds[0], rounds[2])] == ["", ""]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, 0),
        ({"model": {"kind": "resnet32"}}, 1),
        ({"model": {"kind": "resnet32"}, "compute": {"together": False}}, 0),
    ],
)
def test_agents_that_cannot_be_trained_as_a_cohort_are_told(changes, told, tmp_path):
    game = scenario({"mean": []}, rounds=1, players=PLAYERS[:1], changes=changes)
    verdict = play(game, out=tmp_path).result.verdict
    line = "Resnet32 models are trained one by one: BatchNorm."
    assert verdict.count(line) == told
