"""Who takes part in a round, and in which rounds an agent cheats."""

import json
from typing import Literal

import numpy as np
import pytest
from found_methods import check_source

from learning.method import discover
from learning.participation.base import ClientSampling
from scenarios.federation import FederationSpec, malicious_in_round
from scenarios.loader import parse
from scenarios.participation import Participation
from scenarios.text.errors import ScenarioError


def scenario(federation=None, agents=None, game="federated"):
    document = {
        "name": "p",
        "game": game,
        "data": {"kind": "digits"},
        "model": {"kind": "small_cnn"},
        "federation": {"rounds": 20} | (federation or {}),
        "agents": agents or [
            {"name": "honest", "count": 6, "behaviour": {"kind": "benign"}},
            {"name": "cheat", "count": 4, "behaviour": {"kind": "label_flip"}},
        ],
        "defenders": {"mean": []},
    }  # fmt: skip
    return parse(json.dumps(document), "p.yaml")


def rounds(game, count=20):
    taking_part = Participation(game)
    return [taking_part.of(number) for number in range(1, count + 1)]


def test_a_count_is_drawn_by_name_in_scenario_order_and_not_the_same_every_time():
    drawn = rounds(scenario({"agents_per_round": 4}))
    names = [place.name for place in scenario().roster()]
    assert all(
        len(set(some)) == 4 and list(some) == sorted(some, key=names.index) for some in drawn
    )
    assert len(set(drawn)) > 5
    assert drawn == rounds(scenario({"agents_per_round": 4}))


def test_every_agent_is_drawn_equally_often_in_the_long_run():
    game = scenario({"agents_per_round": 3, "rounds": 1000})
    drawn = [name for some in rounds(game, 1000) for name in some]
    times = [drawn.count(place.name) for place in game.roster()]
    assert all(240 <= count <= 360 for count in times)  # 300 expected, standard deviation 14.5


@pytest.mark.parametrize(("share", "malicious"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_a_fixed_malicious_share_holds_in_every_round(share, malicious):
    drawn = rounds(scenario({"agents_per_round": 4, "malicious_share": share}))
    assert all(sum(name.startswith("cheat") for name in some) == malicious for some in drawn)
    assert all(len(some) == 4 for some in drawn)


@pytest.mark.parametrize(
    ("share", "agents", "sampled"),
    [(0.5, 5, 3), (0.5, 3, 2), (0.29, 100, 29), (0.145, 100, 15), (0.01, 5, 1), (1.0, 7, 7)],
)
def test_half_an_agent_takes_part(share, agents, sampled):
    """Case participation-rounding: halves up, as all shares; at least one agent."""
    group = [{"name": "honest", "count": agents, "behaviour": {"kind": "benign"}}]
    game = scenario({"participation": share}, group)
    assert [len(some) for some in rounds(game, 3)] == [sampled] * 3


@pytest.mark.parametrize(
    ("quorum", "invited", "enough"),
    [(0.5, 5, 3), (0.5, 4, 2), (0.55, 20, 11), (0.01, 3, 1), (1.0, 3, 3), (0.5, 0, 1)],
)
def test_a_quorum_is_rounded_up(quorum, invited, enough):
    """0.55 of 20 is 11.000000000000002 in binary: eleven are enough."""
    assert FederationSpec(quorum=quorum).enough(invited) == enough


def test_half_a_malicious_agent_rounds_up():
    assert malicious_in_round(0.5, 5) == 3
    assert malicious_in_round(0.1, 4) == 0


def test_without_a_fixed_share_the_number_of_malicious_agents_varies():
    drawn = rounds(scenario({"agents_per_round": 4}))
    assert len({sum(name.startswith("cheat") for name in some) for some in drawn}) > 1


def windowed(**window):
    return [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {"name": "cheat", "behaviour": {"kind": "label_flip"}, "window": window},
    ]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({}, list(range(1, 21))),
        ({"first": 3, "last": 5}, [3, 4, 5]),
        ({"first": 18}, [18, 19, 20]),
        ({"last": 1}, [1]),
        ({"first": 4, "times": 1}, [4]),
        ({"first": 4, "last": 9, "times": 2}, [4, 5]),
    ],
)
def test_a_window_opens_and_closes(window, expected):
    game = scenario(agents=windowed(**window))
    taking_part, cheat = Participation(game), game.roster()[-1]
    assert [n for n in range(1, 21) if taking_part.cheats(cheat, n)] == expected


def test_one_shot_is_the_first_round_from_the_window_on_for_which_the_agent_is_sampled():
    game = scenario({"agents_per_round": 1}, windowed(first=3, times=1))
    taking_part, cheat = Participation(game), game.roster()[-1]
    sampled = [n for n in range(1, 21) if cheat.name in taking_part.of(n)]
    shots = [n for n in sampled if taking_part.cheats(cheat, n)]
    assert shots == [next(n for n in sampled if n >= 3)]


@pytest.mark.parametrize(
    ("federation", "agents", "game", "message"),
    [
        ({"agents_per_round": 11}, None, "federated", "the 10 agents that there are, got 11"),
        ({"malicious_share": 0.8}, None, "federated", "10 would be malicious, got 4"),
        ({"malicious_share": 0.1}, None, "federated", "10 would be benign, got 6"),
        ({}, windowed(first=21), "federated", "a round of the game's 20, got 21"),
        ({}, windowed(first=5, last=4), "federated", "5, the first one, on, got 4"),
        (
            {},
            [{"name": "a", "behaviour": {"kind": "benign"}, "update": {"kind": "sign_flip"}}],
            "pooled",
            "game: federated for an update attack, got pooled and sign_flip",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_clear_line(federation, agents, game, message):
    with pytest.raises(ScenarioError, match=message):
        scenario(federation, agents, game)


def test_a_bare_share_is_uniform_sampling_of_that_share():
    plain, named = ({"participation": p} for p in (0.4, {"kind": "uniform", "share": 0.4}))
    assert rounds(scenario(plain)) == rounds(scenario(named))


def test_agents_take_part_in_turn():
    group = [{"name": "honest", "count": 5, "behaviour": {"kind": "benign"}}]
    game = scenario({"participation": {"kind": "cyclic", "share": 0.4}}, group)
    turns = [tuple(int(name[-1]) for name in some) for some in rounds(game, 4)]
    assert turns == [(1, 2), (3, 4), (1, 5), (2, 3)]


def test_in_turn_with_a_fixed_share_of_attackers_both_sides_take_turns():
    game = scenario(
        {"agents_per_round": 4, "malicious_share": 0.5, "participation": {"kind": "cyclic"}}
    )
    drawn = rounds(game, 4)
    assert all(sum(name.startswith("cheat") for name in some) == 2 for some in drawn)
    assert len(set(drawn)) > 1


class Stubborn(ClientSampling):
    """Always the same answer."""

    kind: Literal["stubborn"] = "stubborn"
    answer: tuple[int, ...]

    def draw(self, agents, count, round, generator):
        return self.answer


@pytest.mark.parametrize("answer", [(0,), (0, 0), (0, 5), (-1, 0), (0, 1, 2)])
def test_a_method_that_samples_others_is_told_in_one_line(answer):
    group = [{"name": "honest", "count": 5, "behaviour": {"kind": "benign"}}]
    game = scenario({"participation": 0.4}, group)
    other = game.federation.model_copy(update={"participation": Stubborn(share=0.4, answer=answer)})
    with pytest.raises(ValueError, match=r"^stubborn: expected 2 different agents of 0\.\.4 in "):
        rounds(game.model_copy(update={"federation": other}), 1)


@pytest.mark.parametrize("kind", discover(ClientSampling, "learning.participation"))
def test_every_sampling_method_answers_and_cites_its_source(kind):
    method = discover(ClientSampling, "learning.participation")[kind](share=0.5)
    check_source(type(method))
    for round in range(1, 5):
        drawn = list(method.draw(6, 3, round, np.random.default_rng(round)))
        assert len(set(drawn)) == 3
        assert set(drawn) <= set(range(6))
