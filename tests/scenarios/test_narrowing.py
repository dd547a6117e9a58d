"""A part of a sweep: the very games of the whole at some of its values, and no others."""

import json

import pytest

from scenarios.loader import parse_sweep
from scenarios.narrowing import narrowed
from scenarios.text.errors import ScenarioError

DOCUMENT = {
    "name": "a sweep",
    "data": {"kind": "digits"},
    "model": {"kind": "softmax"},
    "agents": [
        {
            "name": "mallory",
            "behaviour": {"kind": "backdoor", "trigger": {"kind": "patch"}, "target": 3},
        }
    ],
    "defenders": {"undefended": [], "mixed": [{"kind": "cutmix"}]},
    "sweep": {
        "seeds": [7, 3],
        "axes": {
            "attackers": {"field": "agents.mallory.count", "values": [1, 2, 5]},
            "order": {
                "choices": {"short": {}, "a=b, c": {"training.epochs": 3}, "long": {"name": "x"}}
            },
            "rate": {"field": "agents.mallory.behaviour.poison_rate", "values": [0.1, 0.2, 0.5]},
            "apart": {"field": "agents.mallory.behaviour.avoid_target", "values": [True, False]},
        },
        "together": [["rate", "attackers"]],
        "omit": [{"attackers": 1, "order": "short"}, {"attackers": 5, "order": "a=b, c"}],
        "payoffs": {"attacker": ["order"], "score": "asr"},
    },
    "published": {
        "source": "nobody",
        "comparable": "no: made up",
        "figures": [
            {"defender": "mixed", "score": "asr", "at": {"attackers": 5, "rate": 0.5}, "value": 0.1}
        ],
    },
}


@pytest.fixture(scope="module")
def whole():
    return parse_sweep(json.dumps(DOCUMENT), "s")


def games(sweep):
    return [(dict(cell.at), cell.seed, cell.digest) for cell in sweep.cells]


@pytest.mark.parametrize(
    ("picks", "keeps"),
    [
        (["seed=3"], lambda at, seed: seed == 3),
        (["attackers=2"], lambda at, seed: at["attackers"] == 2),
        (["rate=0.2"], lambda at, seed: at["attackers"] == 2),
        (["attackers=2", "rate=0.2"], lambda at, seed: at["attackers"] == 2),
        (["attackers=2", "attackers=5"], lambda at, seed: at["attackers"] != 1),
        (["order=a=b, c", "seed=7"], lambda at, seed: at["order"] == "a=b, c" and seed == 7),
        (["apart=false"], lambda at, seed: at["apart"] is False),
        (
            ["attackers=1", "order=long"],
            lambda at, seed: (at["rate"], at["order"]) == (0.1, "long"),
        ),
    ],
)
def test_the_part_has_the_games_of_the_whole_at_those_values(whole, picks, keeps):
    part = narrowed(whole, picks)
    wanted = [game for game in games(whole) if keeps(game[0], game[1])]
    assert wanted
    assert games(part) == wanted
    assert part.digest() != whole.digest()


def test_the_part_is_a_sweep_file_that_reads_back(whole):
    part = narrowed(whole, ["attackers=2"])
    assert part.published is None
    assert games(parse_sweep(json.dumps(part.document()), "again")) == games(part)


def test_without_a_pick_the_sweep_stays_as_it_is(whole):
    assert narrowed(whole, []) is whole


@pytest.mark.parametrize(
    ("picks", "told"),
    [
        (["attackers"], "expected axis=value, got 'attackers'"),
        (["atackers=1"], "did you mean 'attackers'?"),
        (["nothing=1"], "there are: attackers, order, rate, apart, seed"),
        (["attackers=3"], "expected a value of the axis (1, 2, 5), got '3'"),
        (["seed=0"], "expected a value of the axis (7, 3), got '0'"),
        (["apart=1"], "expected a value of the axis (true, false), got '1'"),
        (["attackers=1", "rate=0.5"], "expected values that go together (rate, attackers)"),
        (["attackers=1", "order=short"], "expected combinations that are left to play"),
    ],
)
def test_a_part_that_is_not_there_is_told_in_one_line(whole, picks, told):
    with pytest.raises(ScenarioError) as caught:
        narrowed(whole, picks)
    (line,) = caught.value.lines
    assert line.startswith("--only")
    assert told in line
