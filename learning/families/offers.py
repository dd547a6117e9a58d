"""Methods that other installed packages offer: plug-ins, found by their entry points.

Looking them up reads the metadata of installed packages and runs none of their code. That is done
by `Offer.load` alone, which is for callers who have asked `switched_on`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from learning.families.table import FAMILIES, GROUP, OLD_GROUPS, TOOLS

PLUGIN_SWITCH: Final = "BACKFIRE_PLUGINS"


def switched_on() -> bool:
    """Return whether the operator lets plug-ins run, by the environment variable of the switch."""
    return os.environ.get(PLUGIN_SWITCH) == "1"


@dataclass(frozen=True)
class Offer:
    """An entry point in a group of ours.

    Attributes:
        point: The entry point.
    """

    point: metadata.EntryPoint

    @property
    def family(self) -> str | None:
        """Its family, of methods or of tools; None where there is none of the group's name."""
        name = self.point.group.removeprefix(GROUP)
        name = OLD_GROUPS.get(name, name)
        return name if name in FAMILIES or name in TOOLS else None

    @property
    def outdated(self) -> bool:
        """Whether its group goes by an old name."""
        return self.point.group.removeprefix(GROUP) in OLD_GROUPS

    @property
    def distribution(self) -> tuple[str, str]:
        """Name and version of the package that offers it; "" where they are not known."""
        there = self.point.dist
        return ("", "") if there is None else (there.name, there.version)

    def __str__(self) -> str:
        """Name the method and who offers it, for messages."""
        return f"{self.family or self.point.group}/{self.point.name} of {self.source}"

    @property
    def source(self) -> str:
        """Distribution and version, for messages."""
        return " ".join(filter(None, self.distribution)) or "an unknown package"

    def load(self) -> object:
        """Import what the entry point names.

        Raises:
            PluginError: If that fails in whatever way.
        """
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:  # somebody else's code: anything at all
            raise PluginError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


class PluginError(Exception):
    """What is wrong with a plug-in; one line."""


def offers(family: str | None = None) -> list[Offer]:
    """Return what installed packages offer, in the order of group, name and package.

    Args:
        family: Of this family only; by default of all, and of groups that no family has.
    """
    found = [Offer(point) for point in _points()]
    kept = [offer for offer in found if family is None or offer.family == family]
    return sorted(kept, key=lambda one: (one.point.group, one.point.name, one.distribution))


def _points() -> Iterator[metadata.EntryPoint]:
    for group in metadata.entry_points().groups:
        if group.startswith(GROUP):
            yield from metadata.entry_points(group=group)
