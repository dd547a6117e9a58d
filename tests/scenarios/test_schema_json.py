"""The published JSON schema is fresh, sound, documents itself and agrees with the loader."""

import copy
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learning.method import Method, discover, one_of
from scenarios.families import FAMILIES
from scenarios.json_schema import schema, text
from scenarios.library import SCHEMA_FILE, entries, find, names, published_schema
from scenarios.loader import ScenarioError, load, load_any, parse
from scenarios.sweep.spec import Sweep
from scenarios.text.yaml_reader import read, read_file

ROOT = Path(__file__).parents[2]
SHIPPED = names()


@pytest.fixture(scope="module")
def validator():
    found = published_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_the_published_schema_is_fresh():
    fresh = SCHEMA_FILE.read_text(encoding="utf-8") == text()
    assert fresh, "stale: write it anew with  scripts/schema"


def test_another_process_writes_the_same_text():
    code = "from scenarios.json_schema import text; print(text(), end='')"
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    ).stdout
    assert other.decode("utf-8") == text()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenarios_are_valid_for_loader_and_editors(name, validator):
    loaded = load_any(SHIPPED[name])
    scenario = loaded.cells[-1].scenario if isinstance(loaded, Sweep) else loaded
    validator.validate(read(read_file(SHIPPED[name])).data)
    validator.validate(scenario.resolved())
    assert read_file(SHIPPED[name]).startswith("# yaml-language-server: $schema=")
    assert parse(json.dumps(scenario.resolved()), "resolved") == scenario
    assert scenario.description


def test_every_field_documents_itself():
    definitions = {"Scenario": schema(), **schema()["$defs"]}
    for name, definition in definitions.items():
        assert definition["type"] == "object", name
        assert definition["additionalProperties"] is False, name
        for field, described in definition["properties"].items():
            assert field == "kind" or described.get("description"), f"{name}.{field}"


def test_every_method_is_in_the_schema_with_its_family_and_paper():
    definitions = schema()["$defs"].values()
    for family, package in FAMILIES.items():
        published = {
            definition["properties"]["kind"]["const"]: definition
            for definition in definitions
            if definition.get("x-family") == family
        }
        methods = discover(Method, package)
        assert published.keys() == methods.keys()
        for kind, method in methods.items():
            assert published[kind].get("x-paper", "") == method.paper
            # A method that has no docstring would show its base class's.
            assert published[kind]["description"].splitlines()[0] in (method.__doc__ or "")


def test_a_block_without_a_kind_is_its_defaults_for_loader_and_editors(validator):
    document = read(read_file(SHIPPED["quickstart"])).data
    document["training"]["optimizer"] = {"lr": 0.1}
    assert not list(validator.iter_errors(document))
    assert parse(json.dumps(document), "s").training.optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("unknown",), 1),
        (("name",), 3),
        (("data", "kind"), "digitz"),
        (("data", "epochs"), 1),
        (("training", "epochs"), 0),
        (("training", "epochs"), 1.5),
        (("training", "epochs"), "30"),
        (("training", "optimizer"), {"betas": [0.9, 0.99]}),  # of a kind that is not the default
        (("model",), {"hidden": [4]}),  # which has no default
        (("defenders", "undefended"), [{"multiplier": 1.5}]),
        (("defender_share",), 1.0),
        (("defender_share",), "8/x"),
        (("agents",), []),
        (("agents", 1, "behaviour", "trigger", "kind"), "random_badnt"),
        (("agents", 1, "behaviour", "target"), "distnict"),
        (("referee", "alone"), "some"),
        (("defenders", "undefended"), None),
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(validator, path, value):
    data = read(read_file(SHIPPED["quickstart"])).data
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not validator.is_valid(data)
    with pytest.raises(ScenarioError):
        parse(json.dumps(data), "s")


def test_a_fraction_is_a_number_for_editors(validator):
    data = read(read_file(SHIPPED["quickstart"])).data
    data["referee"]["adversarial"][0]["epsilon"] = "8/255"
    validator.validate(data)


def leaves(value, at=()):
    if isinstance(value, dict | list) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*at, key))
    else:
        yield at


RESOLVED = load(SHIPPED["quickstart"]).resolved()


@settings(
    max_examples=250, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    path=st.sampled_from(sorted(leaves(RESOLVED), key=str)),
    value=st.sampled_from([None, True, 0, 1, 2, -1, 0.5, 1.0, 50, "", "all", "auto", "ceil", []]),
)
def test_what_the_loader_takes_the_schema_takes(validator, path, value):
    data = copy.deepcopy(RESOLVED)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    try:
        parse(json.dumps(data), "s")
    except ScenarioError:
        return
    validator.validate(data)


def test_a_scenario_is_found_by_name_or_path(tmp_path):
    assert find("quickstart") == SHIPPED["quickstart"]
    assert find("backfire_or_coexist") == SHIPPED["federated/backfire_or_coexist"]
    assert find("some/where.yaml") == Path("some/where.yaml")
    other = tmp_path / "mine"
    other.write_text("x")
    assert find(str(other)) == other
    with pytest.raises(ScenarioError, match=r"got 'quickstrt' \(did you mean 'quickstart'\?\)"):
        find("quickstrt")
    with pytest.raises(ScenarioError, match="expected a scenario file or a name of the library"):
        find("../../etc/passwd-that-is-not-there")


def test_library_entries_say_what_they_show():
    assert [entry.name for entry in entries()] == list(SHIPPED)
    assert all(entry.description and "\n" not in entry.description for entry in entries())


def test_a_family_without_methods_is_named(monkeypatch):
    empty = types.ModuleType("nothing_here")
    empty.__path__ = []
    monkeypatch.setitem(sys.modules, "nothing_here", empty)
    with pytest.raises(TypeError, match="expected a Method in nothing_here, found none"):
        one_of(Method, "nothing_here")


def test_only_keywords_that_every_editor_knows():
    assert published_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "discriminator" not in text()
