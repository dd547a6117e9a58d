"""Detection counts of federated rules, against sklearn and counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from server.referee.results import RoundScores
from server.referee.scoring.detection import CheatingAgents, detection_scores, round_detection
from small_games import ROOT, small

NAMES = tuple(f"a{k}" for k in range(7))


def drawn(seed):
    draw = np.random.default_rng(seed)
    cheats = np.zeros(7, bool)
    cheats[draw.choice(7, draw.integers(1, 6), replace=False)] = True
    return cheats, draw.random(7) < 0.6, draw.integers(0, 4, 7) / 2


def named(mask):
    return tuple(name for name, one in zip(NAMES, mask, strict=True) if one)


def entry(number, agents, selected, detection, **fields):
    return RoundScores(
        round=number,
        sampled=agents,
        admitted=agents,
        skipped=False,
        selected=selected,
        clean_accuracy=None,
        asr={},
        detection=detection,
        **fields,
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_round_of_a_rule_that_selects_counts_as_sklearn_does(seed):
    cheats, taken, _ = drawn(seed)
    found = round_detection(NAMES, named(cheats), named(taken), None)
    removed = ~taken
    assert found.cheated == named(cheats)
    assert found.recall.count == cheats.sum()
    assert found.precision.count == removed.sum()
    assert found.recall.value == pytest.approx(recall_score(cheats, removed))
    if removed.any():
        assert found.precision.value == pytest.approx(precision_score(cheats, removed))
    assert found.auroc == pytest.approx(roc_auc_score(cheats, removed))
    assert found.weights is None


@pytest.mark.parametrize("seed", range(8))
def test_a_round_of_a_rule_that_weighs_is_ranked_as_sklearn_does(seed):
    cheats, _, trust = drawn(seed)
    found = round_detection(NAMES, named(cheats), None, torch.tensor(trust))
    assert found.auroc == pytest.approx(roc_auc_score(cheats, -trust))
    assert found.precision is None
    assert found.recall is None
    assert found.weights == dict(zip(NAMES, trust, strict=True))


def test_the_defenders_own_row_is_no_target():
    with_own = torch.tensor([0.5, 2.0, 0.0])
    found = round_detection(("a0", "a1"), ("a0",), None, with_own)
    assert found.weights == {"a0": 0.5, "a1": 2.0}
    assert found.auroc == 1.0


def test_weights_that_differ_by_rounding_are_ties():
    found = round_detection(("a0", "a1"), ("a0",), None, torch.tensor([1.0, 1 + 1e-15]).double())
    assert found.auroc == 0.5


def test_who_judges_nobody_has_no_detection():
    assert round_detection(NAMES, NAMES[:2], None, None) is None
    assert detection_scores([entry(1, NAMES, None, None)]) is None


def test_what_is_undefined_is_none_and_not_zero():
    nobody = round_detection(NAMES, (), NAMES, None)
    assert nobody.precision.value is None
    assert nobody.recall.value is None
    assert nobody.auroc is None
    everybody = round_detection(NAMES, NAMES, NAMES[:3], None)
    assert everybody.recall.hits == 4
    assert everybody.auroc is None


def sums(weigh):
    rounds, pairs, ledger = [], [], {name: [0, 0, 0, 0] for name in NAMES}
    for seed in range(12):
        cheats, taken, trust = drawn(seed)
        here = np.arange(7) != seed % 7  # one is absent in each round
        agents = named(here)
        selected = None if weigh else named(here & taken)
        weights = torch.tensor(trust[here]) if weigh else None
        found = round_detection(agents, named(cheats & here), selected, weights)
        rounds.append(entry(seed + 1, agents, selected, found))
        suspicion = -trust if weigh else (~taken).astype(float)
        for bad in np.flatnonzero(cheats & here):
            for good in np.flatnonzero(~cheats & here):
                gap = suspicion[bad] - suspicion[good]
                pairs.append((bad, good, (np.sign(gap) + 1) / 2))
        for k in np.flatnonzero(here):
            booked = (1, cheats[k], not taken[k], cheats[k] and not taken[k])
            ledger[NAMES[k]] = [a + int(b) for a, b in zip(ledger[NAMES[k]], booked, strict=True)]
    return rounds, pairs, ledger


def test_sums_over_rounds_are_those_counted_one_by_one():
    rounds, pairs, ledger = sums(weigh=False)
    total = detection_scores(rounds)
    judged, cheated, removed, caught = np.sum(list(ledger.values()), axis=0)
    assert (total.rounds, total.updates, total.cheating) == (12, judged, cheated)
    assert (total.removed, total.true_positives) == (removed, caught)
    assert (total.precision.hits, total.precision.count) == (caught, removed)
    assert (total.recall.hits, total.recall.count) == (caught, cheated)
    assert total.auroc == pytest.approx(np.mean([hit for *_, hit in pairs]))
    for name, counts in ledger.items():
        own = total.by_agent[name]
        assert [own.judged, own.cheated, own.removed, own.caught] == counts


@pytest.mark.parametrize("weigh", [False, True])
def test_an_agents_auroc_is_over_the_pairs_with_it(weigh):
    rounds, pairs, _ = sums(weigh)
    total = detection_scores(rounds)
    for k, name in enumerate(NAMES):
        mine = [hit for bad, good, hit in pairs if k in (bad, good)]
        assert total.by_agent[name].auroc == pytest.approx(np.mean(mine))
    if weigh:
        assert total.removed is None
        assert total.precision is None
        assert {own.removed for own in total.by_agent.values()} == {None}


def test_an_agent_cheats_only_while_its_window_is_open():
    players = [
        {"name": "honest", "behaviour": {"kind": "benign"}},
        {
            "name": "early",
            "count": 2,
            "behaviour": {"kind": "benign"},
            "update": {"kind": "sign_flip"},
            "window": {"first": 2, "last": 3},
        },
        {
            "name": "once",
            "behaviour": {"kind": "benign"},
            "update": {"kind": "sign_flip"},
            "window": {"times": 1},
        },
    ]
    path = ROOT / "scenarios" / "federated" / "quickstart.yaml"
    game = small(path, players=players, federation={"rounds": 4}, defenders={"mean": []})
    agents = ["honest", "early-01", "early-02", "once"]
    cheating = CheatingAgents(game)
    told = [cheating.among(agents, number) for number in range(1, 5)]
    assert told == [("once",), ("early-01", "early-02"), ("early-01", "early-02"), ()]
    assert cheating.among(["honest", "early-02"], 2) == ("early-02",)
