"""What there is to play with: the scenarios of the library, and every method by family."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backfire.errors import UsageError
from learning.families.offers import PLUGIN_SWITCH, offers, switched_on
from scenarios.families import FAMILIES
from scenarios.library import entries, published_schema
from scenarios.text.quoting import listing, nearest, printable, shown

SCENARIOS: Final = "scenarios"

Catalogue = dict[str, list[dict[str, Any]]]


def catalogue(chosen: str | None = None) -> Catalogue:
    """Return the scenarios and methods, by family.

    Args:
        chosen: Only this family, or what is called so in any family.

    Raises:
        UsageError: If there is no such family, method or scenario.
    """
    found: Catalogue = {SCENARIOS: _scenarios(), **_methods()}
    if chosen is None:
        return found
    if chosen in found:
        return {chosen: found[chosen]}
    called = {
        family: [item for item in items if item["name"] == chosen]
        for family, items in found.items()
    }
    called = {family: items for family, items in called.items() if items}
    if not called:
        names = {item["name"] for items in found.values() for item in items}
        hint = nearest(chosen, [*found, *sorted(names)])
        families = f"a family ({listing(found, len(found))})"
        raise UsageError(f"expected {families} or a name in one, got {shown(chosen)}{hint}")
    return called


def searched(found: Catalogue, text: str) -> Catalogue:
    """Return what has a text in its name, summary or source, whatever the case."""
    kept = {
        family: [item for item in items if text.casefold() in _told(item).casefold()]
        for family, items in found.items()
    }
    return {family: items for family, items in kept.items() if items}


def definition_of(method: str) -> dict[str, Any]:
    """Return what the schema says of a method.

    Raises:
        UsageError: If there is none of this name.
    """
    known = {
        definition["properties"]["kind"]["const"]: definition
        for definition in schema_in_use()["$defs"].values()
        if definition.get("x-family") in FAMILIES
    }
    if method not in known:
        hint = nearest(method, known) or " (backfire list shows all)"
        raise UsageError(f"expected the name of a method, got {shown(method)}{hint}")
    return dict(known[method])


def _told(item: dict[str, Any]) -> str:
    return " ".join((item["name"], item["summary"], item.get("paper", "")))


def show(found: Catalogue, console: Console) -> None:
    """Print a catalogue: a name and a line for each entry; of a single one its parameters, too."""
    for family, items in found.items():
        console.print(Text(family, style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for item in items:
            table.add_row(Text("  " + printable(item["name"])), Text(printable(item["summary"])))
            for name, told in item.get("parameters", {}).items() if len(items) == 1 else ():
                table.add_row(Text("    " + printable(name)), Text(printable(told)))
        console.print(table)
    idle = [str(offer) for offer in offers() if offer.family in found and not switched_on()]
    if idle:
        told = f"plug-ins are off; {PLUGIN_SWITCH}=1 adds {listing(idle, 10)}"
        console.print(Text(printable(told, 1000), style="dim"))


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
    for definition in schema_in_use()["$defs"].values():
        if definition.get("x-family") in found:
            found[definition["x-family"]].append(_method(definition))
    for items in found.values():
        items.sort(key=lambda item: str(item["name"]))
    return found


def schema_in_use() -> dict[str, Any]:
    """Return the published schema, or with plug-ins switched on the one of this machine."""
    if switched_on():
        from scenarios.json_schema import schema

        return schema()
    return published_schema()


def _package(plugin: dict[str, Any]) -> str:
    return " ".join(filter(None, (plugin["distribution"], plugin["version"])))


def _method(definition: dict[str, Any]) -> dict[str, Any]:
    summary = " ".join(
        definition.get("description", "").split("\n\n")[0].replace("``", "`").split()
    )
    plugin = definition.get("x-plugin")
    return {
        "name": definition["properties"]["kind"]["const"],
        "summary": summary if plugin is None else f"{summary} (plug-in of {_package(plugin)})",
        "paper": definition.get("x-paper", ""),
        **({} if plugin is None else {"plugin": plugin}),
        "parameters": {
            name: field.get("description", "")
            for name, field in definition["properties"].items()
            if name != "kind"
        },
        "defaults": {
            name: field["default"]
            for name, field in definition["properties"].items()
            if name != "kind" and "default" in field
        },
    }
