"""The `published:` block: what is accepted, and each mistake with its place."""

import json

import pytest
from pydantic import ValidationError

from scenarios.loader import parse_as
from scenarios.sweep.published import Published, fits, problems, same_value
from scenarios.text.errors import ScenarioError

AXES = {"attackers": [1, 5, 10], "trigger": ["fixed", "redrawn"], "cutmix": [True, False]}
SIDE = {"at": {"attackers": 10}, "defender": "undefended", "score": "asr_all"}
CLAIM = {"text": "fewer", "less": SIDE, "than": {**SIDE, "at": {"attackers": 1}}}
FIGURE = {**SIDE, "value": 0.21, "spread": 0.03}
BLOCK = {"source": "S1, Table 3", "comparable": "yes", "figures": [FIGURE], "claims": [CLAIM]}


def found(block, **more):
    published = Published.model_validate(block)
    return problems(published, AXES, ["undefended", "indexed"], ["mallory"], **more)


def test_a_sound_block_is_accepted_and_types_of_values_are_kept():
    assert found(BLOCK) == []
    at = {"attackers": 5, "trigger": "fixed", "cutmix": True}
    published = Published.model_validate({**BLOCK, "figures": [{**FIGURE, "at": at}]})
    assert published.figures[0].at == at
    assert [type(value) for value in published.figures[0].at.values()] == [int, str, bool]
    assert published.is_comparable
    assert published.why_not == ""
    apart = Published.model_validate({**BLOCK, "comparable": "no: digits instead of CIFAR-10"})
    assert not apart.is_comparable
    assert apart.why_not == "digits instead of CIFAR-10"


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("defender", "undefendet", "published.claims[0].than.defender"),
        ("group", "malory", "published.claims[0].than.group"),
    ],
)
def test_names_that_the_scenario_lacks_are_told_with_their_place(at, value, said):
    block = {**BLOCK, "claims": [{**CLAIM, "than": {**SIDE, at: value}}]}
    (problem,) = found(block)
    path = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in problem.path)
    assert path == f".{said}"
    assert "did you mean" in problem.message


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"atackers": 1}, "an axis of the sweep"),
        ({"attackers": 2}, "one of 1, 5, 10"),
        ({"attackers": True}, "one of 1, 5, 10"),
        ({"cutmix": 1}, "one of True, False"),
        ({"trigger": "frozen"}, "one of fixed, redrawn"),
    ],
)
def test_values_that_the_sweep_lacks_are_told_with_their_place(at, message):
    (problem,) = found({**BLOCK, "figures": [{**FIGURE, "at": at}]})
    assert problem.path == ("published", "figures", 0, "at", *at)
    assert message in problem.message


def test_a_combination_that_is_left_out_is_no_place():
    cells = [{"attackers": n, "trigger": "fixed", "cutmix": True} for n in (1, 5, 10)]
    assert found(BLOCK, cells=cells) == []
    at = {"attackers": 1, "trigger": "redrawn"}
    (problem,) = found({**BLOCK, "figures": [{**FIGURE, "at": at}]}, cells=cells)
    assert problem.path == ("published", "figures", 0, "at")


@pytest.mark.parametrize(
    ("block", "place"),
    [
        ({**BLOCK, "comparable": "perhaps"}, "comparable"),
        ({**BLOCK, "comparable": "no"}, "comparable"),
        ({**BLOCK, "figures": [{**FIGURE, "value": 21}]}, "figures[0].value"),
        ({**BLOCK, "claims": [{**CLAIM, "about": {**SIDE, "tolerance": 0.1}}]}, "claims[0]"),
        ({**BLOCK, "claims": [{"text": "x", "than": SIDE}]}, "claims[0]"),
        ({**BLOCK, "claims": [{**CLAIM, "less": {"value": 0.1, **SIDE}}]}, "claims[0].less"),
        (
            {**BLOCK, "claims": [{**CLAIM, "less": {"value": 0.1}, "than": {"value": 0.2}}]},
            "claims[0]",
        ),
        ({**BLOCK, "claim": []}, "claim"),
    ],
)
def test_the_loader_says_a_mistake_in_one_line_with_its_place(block, place):

    with pytest.raises(ScenarioError) as caught:
        parse_as(Published, json.dumps(block), "t.yaml", lambda data: data)
    (line,) = caught.value.lines
    assert line.startswith("t.yaml:1:")
    assert f" {place}: expected" in line


def test_constants_and_tolerances():
    low = {"text": "low", "less": SIDE, "than": {"value": 0.05}, "margin": 0.01}
    near = {"text": "alike", "about": {**SIDE, "tolerance": 0.02}, "than": SIDE}
    published = Published.model_validate({**BLOCK, "claims": [low, near]})
    assert published.claims[0].first.at == {"attackers": 10}
    assert published.claims[1].about.tolerance == 0.02
    with pytest.raises(ValidationError, match="margin only with less"):
        Published.model_validate({**BLOCK, "claims": [{**near, "margin": 0.1}]})


def test_true_is_not_one():
    assert same_value(1, 1.0)
    assert not same_value(True, 1)
    assert fits({"n": 5}, {"n": 5.0, "x": "y"})
    assert not fits({"n": 5}, {"x": "y"})
