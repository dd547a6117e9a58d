"""What there is to play with: the scenarios of the library, and every method by family."""

from __future__ import annotations

import os
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backfire.errors import UsageError
from learning.method import PLUGIN_SWITCH
from scenarios.families import FAMILIES
from scenarios.library import entries, published_schema
from scenarios.quoting import listing, nearest, printable, shown

SCENARIOS: Final = "scenarios"

Catalogue = dict[str, list[dict[str, Any]]]


def catalogue(family: str | None = None) -> Catalogue:
    """Return the scenarios and methods, by family.

    Args:
        family: Only this one.

    Raises:
        UsageError: If there is no such family.
    """
    known = [SCENARIOS, *FAMILIES]
    if family is not None and family not in known:
        hint = nearest(family, known) or f" (there are {listing(known)})"
        raise UsageError(f"expected a family, got {shown(family)}{hint}")
    found: Catalogue = {SCENARIOS: _scenarios(), **_methods()}
    return found if family is None else {family: found[family]}


def show(found: Catalogue, console: Console) -> None:
    """Print a catalogue: a name and a line for each entry."""
    for family, items in found.items():
        console.print(Text(family, style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for item in items:
            table.add_row(Text("  " + printable(item["name"])), Text(printable(item["summary"])))
        console.print(table)


def _scenarios() -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "summary": ("(sweep) " if entry.sweep else "") + entry.description,
            "sweep": entry.sweep,
            "file": str(entry.file),
        }
        for entry in entries()
    ]


def _methods() -> Catalogue:
    found: Catalogue = {family: [] for family in FAMILIES}
    for definition in _schema()["$defs"].values():
        if definition.get("x-family") in found:
            found[definition["x-family"]].append(_method(definition))
    for items in found.values():
        items.sort(key=lambda item: str(item["name"]))
    return found


def _schema() -> dict[str, Any]:
    """Return the published schema, or with plug-ins switched on the one of this machine."""
    if os.environ.get(PLUGIN_SWITCH) == "1":
        from scenarios.json_schema import schema

        return schema()
    return published_schema()


def _method(definition: dict[str, Any]) -> dict[str, Any]:
    summary = " ".join(
        definition.get("description", "").split("\n\n")[0].replace("``", "`").split()
    )
    return {
        "name": definition["properties"]["kind"]["const"],
        "summary": summary,
        "paper": definition.get("x-paper", ""),
        "parameters": {
            name: field.get("description", "")
            for name, field in definition["properties"].items()
            if name != "kind"
        },
    }
