"""`backfire show`: one method, from what the published schema says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console
from rich.text import Text

from backfire.cli.catalogue import definition_of, schema_in_use
from backfire.cli.options import Debug, Json, Plain, open_console
from backfire.deferred import defer_torch
from backfire.errors import told
from backfire.terminal import say
from scenarios.text.quoting import listing, printable

Schema = dict[str, Any]
_LIMITS: Final = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)
_WORDS: Final = {"integer": "whole number", "string": "text", "boolean": "true or false"}


def show(
    method: Annotated[str, typer.Argument(help="A method that `backfire list` shows.")],
    plain: Plain = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Show a method: what it does, its source, its fields with defaults, and an example.

    METHOD is a name that `backfire list` shows, such as krum.
    """
    defer_torch()
    with told(debug=debug, json_output=json_output):
        definition = definition_of(method)
        if json_output:
            say(json.dumps({**definition, "example": example_of(definition)}, indent=2))
        else:
            _print(definition, open_console(plain))


def _print(definition: Schema, console: Console) -> None:
    family, kind = definition["x-family"], definition["properties"]["kind"]["const"]
    console.print(Text(f"{kind} ({family})", style="bold"))
    console.print(Text(printable_paragraphs(definition.get("description", ""))))
    if paper := definition.get("x-paper"):
        console.print(Text(f"\nSource: {printable(paper)}"))
    fields = [(name, field) for name, field in definition["properties"].items() if name != "kind"]
    console.print(Text("\nFields" if fields else "\nNo fields.", style="bold"))
    for name, field in fields:
        facts = "; ".join(facts_of(field, required=name in definition.get("required", ())))
        console.print(Text(f"  {name}: {facts}"))
        console.print(Text(f"      {printable(field.get('description', ''))}"))
    console.print(Text("\nExample", style="bold"))
    console.print(Text(f"  {example_of(definition)}"), soft_wrap=True)


def printable_paragraphs(text: str) -> str:
    """Return a docstring with its paragraphs, each on one line."""
    paragraphs = text.replace("``", "`").split("\n\n")
    return "\n\n".join(printable(" ".join(paragraph.split())) for paragraph in paragraphs)


def facts_of(field: Schema, *, required: bool) -> Iterator[str]:
    """Yield a field's type and range, its default, and where the default comes from."""
    yield " or ".join(dict.fromkeys(_types(field)))
    if required:
        yield "required"
    elif "default" in field:
        yield f"default {_inline(field['default'])}"
    if origin := field.get("origin"):
        yield f"origin: {origin}"


def example_of(definition: Schema) -> str:
    """Return a method as it is written in a scenario: its kind, and the fields that it needs."""
    fields = definition["properties"]
    needed = {
        name: _value(fields[name]) for name in definition.get("required", ()) if name != "kind"
    }
    return _inline({"kind": fields["kind"]["const"], **needed})


def _inline(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()


def _types(field: Schema) -> Iterator[str]:
    """Yield what a field may be; a method's name stands for the mapping with its kind."""
    for branch in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _types(branch)
    if "enum" in field:
        yield f"one of {listing(map(str, field['enum']), 12)}"
    elif "const" in field:
        yield str(field["const"])
    elif "$ref" in field:
        definition = schema_in_use()["$defs"][field["$ref"].rsplit("/", 1)[-1]]
        yield str(definition.get("properties", {}).get("kind", {}).get("const", "a mapping"))
    elif field.get("type") == "array":
        yield "list"
    elif "pattern" in field and field["pattern"].endswith("/[0-9]+$"):
        yield "fraction such as 8/255"
    elif "type" in field:
        limits = [f"{words} {field[name]}" for name, words in _LIMITS if name in field]
        word = _WORDS.get(field["type"], str(field["type"]))
        yield " ".join([word, " and ".join(limits)]).strip()


def _value(field: Schema) -> Any:  # noqa: ANN401 - any value of YAML
    """Return a small value that a field may have."""
    if "anyOf" in field:
        return _value(field["anyOf"][0])
    for known in ("examples", "enum"):
        if known in field:
            return field[known][0]
    if field.get("type") == "integer":
        return max(1, field.get("minimum", 1))
    if field.get("type") == "number":
        return 1.0
    return "name"
