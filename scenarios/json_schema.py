"""The published JSON schema of scenarios, for editors; made from the schema, never by hand.

Next to the keywords of JSON Schema it says for each method where it comes from (``x-paper``) and
to which family it belongs (``x-family``), and for one that is not of this house which installed
package offers it (``x-plugin``); fields say where their default comes from (``origin``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from learning.families.origins import origin_of
from learning.method import Method, discover
from scenarios.families import FAMILIES
from scenarios.sweep.spec import SweepFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Allows a fraction such as ``8/255`` where a number is wanted, as our YAML reader does."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        number = super().float_schema(schema)
        return {"anyOf": [number, {"type": "string", "pattern": "^[-+]?[0-9]+/[0-9]+$"}]}

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema() -> Schema:
    """Return the JSON schema of scenario and sweep files, with the methods installed here."""
    out: Schema = {"$schema": DIALECT, **SweepFile.model_json_schema(schema_generator=_Generator)}
    out["title"] = "Backfire scenario"
    for family, name, method in _methods(out):
        definition = out["$defs"][name]
        definition["x-family"] = family
        if method.paper:
            definition["x-paper"] = method.paper
        if (origin := origin_of(method)) is not None:
            definition["x-plugin"] = origin
    _simplify(out, out["$defs"])
    return out


def text() -> str:
    """Return the schema as it is published; the same text each time."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _methods(out: Schema) -> Iterator[tuple[str, str, type[Method]]]:
    """Yield family, name of the definition and class of each method."""
    for family, package in FAMILIES.items():
        for kind, method in discover(Method, package).items():
            for name, definition in out["$defs"].items():
                constant = definition.get("properties", {}).get("kind", {}).get("const")
                if constant == kind and name.rsplit("__", 1)[-1] == method.__name__:
                    yield family, name, method


def _simplify(node: object, definitions: Schema) -> None:
    """Keep to keywords that every editor knows, in place."""
    if isinstance(node, list):
        for item in node:
            _simplify(item, definitions)
    if not isinstance(node, dict):
        return
    for item in node.values():
        _simplify(item, definitions)
    if node.pop("discriminator", None):
        usual = node.get("default")
        kind = usual.get("kind") if isinstance(usual, dict) else None
        for choice in node.get("oneOf", ()):
            of = definitions[choice["$ref"].rsplit("/", 1)[-1]]["properties"]["kind"]["const"]
            # A block that names none is of its default's kind, as the loader has it.
            if of != kind:
                choice["required"] = ["kind"]
