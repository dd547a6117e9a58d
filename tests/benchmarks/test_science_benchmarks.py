"""Benchmarks that play games with several seeds say of them what the games say."""

import pytest

from benchmarks import alie_against_krum, coexist
from benchmarks.alie_against_krum import Played


@pytest.mark.parametrize(("strength", "picked"), [("z_max = 0.21", 1.0), ("z = 1.5", 0.0)])
def test_copies_near_the_mean_are_picked_and_far_ones_are_not(strength, picked):
    """H6: 7 (1 + z^2) against 20; a benchmark that counted honest picks would say the opposite."""
    assert alie_against_krum.game("iid", strength, 0, rounds=1).picked == picked


def test_a_row_tells_the_paired_loss_and_how_often_krum_picked_it():
    games = [Played(0.5, 0.7, 0.0), Played(0.6, 0.7, 0.5), Played(0.4, 0.7, 1.0)]
    row = alie_against_krum.row("z", games)
    assert row["picked"] == "50 (0 to 100)"
    assert row["loss"].startswith("20.0 [-4.8, 44.8]")
    assert float(row["p"]) == pytest.approx(0.074, abs=0.001)
    assert row["seeds"] == 3


def test_a_row_of_both_games_is_of_the_same_agents_and_adds_up():
    found = coexist.game("one pattern each", 2, 0, quick=True)
    games = {kind for kind, _ in found}
    assert games == {"pooled", "federated"}
    assert ("pooled", "median") not in found
    for figures in found.values():
        assert figures["interference"] == pytest.approx(figures["alone"] - figures["asr"])
        assert 0 <= figures["asr"] <= 1
    lines = list(coexist.lines("two", [found, found]))
    assert [(line["game"], line["defender"]) for line in lines] == list(found)
    assert all(line["seeds"] == 2 for line in lines)
