"""One method on the terminal: `show`, `list --search`, `schema METHOD`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from backfire.cli.catalogue import schema_in_use
from backfire.cli.main import app
from backfire.cli.show import example_of, facts_of
from learning.method import Method, discover
from scenarios.families import FAMILIES
from scenarios.text.yaml_reader import read

METHODS = [one for one in schema_in_use()["$defs"].values() if one.get("x-family") in FAMILIES]


def invoke(*arguments: str) -> str:
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.mark.parametrize("definition", METHODS, ids=lambda one: f"{one['x-family']}-{one['title']}")
def test_the_example_of_every_method_is_valid(definition) -> None:
    written = read(example_of(definition)).data
    method = discover(Method, FAMILIES[definition["x-family"]])[written["kind"]]
    made = method.model_validate(written)
    assert made.model_fields_set == set(written)


def test_show_tells_source_field_range_origin_and_example() -> None:
    words = " ".join(invoke("show", "krum", "--plain").split())
    assert words.startswith("krum (aggregation) Takes one update, unchanged")
    assert "Source: Blanchard et al., Machine learning with adversaries, NeurIPS 2017" in words
    assert "f: whole number at least 0; required; origin: paper Bound on the" in words
    assert words.endswith("Example {kind: krum, f: 1}")


def test_show_as_json_is_the_methods_schema_with_its_example() -> None:
    told = json.loads(invoke("show", "krum", "--json"))
    assert told == {**schema_in_use()["$defs"]["Krum"], "example": "{kind: krum, f: 1}"}


def test_no_two_methods_share_a_name_so_that_one_is_shown() -> None:
    kinds = [one["properties"]["kind"]["const"] for one in METHODS]
    assert len(kinds) == len(set(kinds)) > 100


def test_a_default_is_shown_with_its_limits() -> None:
    field = {"default": 0.5, "exclusiveMinimum": 0, "maximum": 1, "type": "number"}
    assert list(facts_of(field, required=False)) == ["number above 0 and at most 1", "default 0.5"]


def test_a_name_that_is_no_methods_is_one_line_with_the_nearest() -> None:
    ended = CliRunner().invoke(app, ["show", "krumm"])
    assert ended.exit_code == 2
    line = "error: expected the name of a method, got 'krumm' (did you mean 'krum'?)\n"
    assert ended.output == line


def test_list_searches_names_lines_and_sources_whatever_the_case() -> None:
    found = json.loads(invoke("list", "--search", "BLANCHARD", "--json"))
    assert {item["name"] for items in found.values() for item in items} >= {"krum", "multi_krum"}
    assert all("blanchard" in json.dumps(item).casefold() for one in found.values() for item in one)
    assert json.loads(invoke("list", "--search", "no such text", "--json")) == {}


def test_list_says_defaults() -> None:
    found = json.loads(invoke("list", "small_cnn", "--json"))["model"][0]
    assert found["defaults"] == {"downsample": "max", "halvings": 3}


def test_the_schema_of_one_method_is_its_part_of_the_whole() -> None:
    assert json.loads(invoke("schema", "krum")) == schema_in_use()["$defs"]["Krum"]


def test_the_shell_can_be_told_to_complete_commands() -> None:
    assert "--install-completion" in invoke("--help")
