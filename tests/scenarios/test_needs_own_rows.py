"""A defence that needs rows of the defender's is refused where there are none, in one line."""

import pytest
from pydantic import ValidationError

from scenarios.scenario import Scenario

SCENARIO = {
    "name": "own-rows",
    "data": {"kind": "digits"},
    "model": {"kind": "softmax"},
    "agents": [{"name": "ada", "behaviour": {"kind": "benign"}}],
}


def told(share, **defence):
    fields = {**SCENARIO, "defender_share": share, "defenders": {"d": [defence]}}
    try:
        Scenario.model_validate(fields)
    except ValidationError as error:
        return [one["msg"] for one in error.errors()]
    return []


@pytest.mark.parametrize(
    "kind", ["agent_augmentation", "backdoor_adversarial_training", "influence"]
)
def test_they_need_a_share(kind):
    assert told(0.0, kind=kind) == [f"expected a share above 0 for the {kind} of 'd', got 0"]
    assert told(0.1, kind=kind) == []


def test_others_do_not():
    assert told(0.0, kind="influence", judge="self") == []
    assert told(0.0, kind="sever") == []
