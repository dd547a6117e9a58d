"""docs/testing-defences.md: its tests run, its scenarios are played, its commands exist."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main
import yaml

from backfire.cli.main import app
from backfire.playing import play
from clients.agent_file import read_agent
from clients.private import private_app
from scenarios.loader import parse

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "testing-defences.md").read_text()
BLOCKS = dict(re.findall(r"^```(?:sh|yaml) (\S+)\n(.*?)^```$", PAGE, re.M | re.S))


def test_its_conformance_tests_run():
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    names = {"__name__": "page"}
    exec(compile(source, "page", "exec"), names)  # noqa: S102 - our own page
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_its_scenario_is_played(tmp_path):
    told = yaml.safe_load(BLOCKS["defence.yaml"])
    told["federation"] |= {"rounds": 2, "local_epochs": 1}
    told |= {"model": {"kind": "softmax"}, "referee": {"alone": 0}}
    result = play(parse(json.dumps(told), "page"), out=tmp_path).result
    assert list(result.defenders) == ["nothing", "today", "planned"]
    assert result.quarantined == ()


def test_the_scenarios_are_those_that_the_kits_are_made_for():
    first, second = (
        parse(BLOCKS[name], name).roster() for name in ("defence.yaml", "red-team.yaml")
    )
    (init,) = [line for line in BLOCKS["staging"].splitlines() if " init " in line]
    kits = shlex.split(init)[shlex.split(init).index("--agents") + 1].split(",")
    assert [place.name for place in first] == kits
    assert [place.name for place in second] == kits


def test_the_red_teams_file_is_read_and_plays_its_game(tmp_path):
    (tmp_path / "agent.yaml").write_text(BLOCKS["agent.yaml"])
    x = np.zeros((150, 8, 8, 1), np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.arange(150) % 10)
    table = json.dumps({"shape": [1, 8, 8], "class_names": [str(n) for n in range(10)]})
    scenario = json.dumps(parse(BLOCKS["red-team.yaml"], "page").resolved())
    assert callable(private_app(read_agent(tmp_path), scenario, table))


@pytest.mark.parametrize(
    "line", [line for name in ("laptop", "staging") for line in BLOCKS[name].splitlines()]
)
def test_every_command_exists(line, tmp_path, monkeypatch):
    (tmp_path / "defence.yaml").write_text(BLOCKS["defence.yaml"])
    monkeypatch.chdir(tmp_path)
    command, name, rest = typer.main.get_command(app), "backfire", shlex.split(line)[1:]
    while hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.commands[name]
    given = command.make_context(name, rest).params
    if "--set" in line:
        parse(BLOCKS["defence.yaml"], "page", list(given[_changes(given)]))


def _changes(given):
    return next(name for name, value in given.items() if value and "=" in str(value))


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (DOCS / target).exists(), target
    assert "docs/testing-defences.md" in (DOCS.parent / "README.md").read_text()
