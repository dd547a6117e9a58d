"""The families of methods, and what is known of a kind that no method here has."""

from __future__ import annotations

from learning.families.offers import PLUGIN_SWITCH, Offer, PluginError, offers, switched_on
from learning.families.table import DEFENCES, FAMILIES, TOOLS
from learning.method import Method, broken

# What methods are called now; a kind that is gone says so, and is not guessed at.
_RENAMED = {"by_class": "shards, and its classes_per_agent shards"}

# The kind of what `backfire.play` is given as an object that no family has.
PYTHON = "python"

__all__ = ["DEFENCES", "FAMILIES", "faults", "plugin_hint"]


def faults() -> dict[Offer, str]:
    """Return the plug-ins that are left out, and what is wrong with each; none if switched off."""
    return {**_broken_tools(), **_broken_methods()}


def _broken_tools() -> dict[Offer, str]:
    wrong: dict[Offer, str] = {}
    for offer in [one for family in TOOLS for one in offers(family)] if switched_on() else ():
        try:
            offer.load()
        except PluginError as error:
            wrong[offer] = str(error)
    return wrong


def _broken_methods() -> dict[Offer, str]:
    others = ((family,) for family in FAMILIES if family not in DEFENCES)
    return {
        offer: fault
        for group in (*others, DEFENCES)  # defences stand in one list, and share their kinds
        for offer, fault in broken(Method, *(FAMILIES[family] for family in group)).items()
    }


def plugin_hint(kind: object) -> str:
    """Return what an installed package has to do with an unknown kind, as `` (...)``; "" if none.

    Args:
        kind: As it was written.
    """
    if kind == PYTHON:
        return " (it was an object from Python, which no file can hold: play it from Python again)"
    if isinstance(kind, str) and kind in _RENAMED:
        return f" (it is called {_RENAMED[kind]} now)"
    named = [offer for offer in offers() if offer.point.name == kind and offer.family is not None]
    if not named:
        return ""
    if not switched_on():
        return f" ({named[0]} is installed, but plug-ins are off: set {PLUGIN_SWITCH}=1)"
    wrong = faults()
    told = [
        f" (the plug-in {offer} is broken: {wrong[offer]})" for offer in named if offer in wrong
    ]
    return told[0] if told else ""
