"""The families of methods, and the folders in which their methods are found by name.

The name of a family is what ``backfire list`` shows, and the last part of the group of entry
points in which other packages offer methods of it: ``backfire.<family>``.
"""

from __future__ import annotations

from typing import Final

# Those of packages above this one are found by name, not imported.
FAMILIES: Final[dict[str, str]] = {
    "data": "learning.data",
    "partition": "learning.data.partition",
    "model": "learning.models",
    "trigger": "learning.triggers",
    "behaviour": "clients.data_attacks",
    "update_attack": "clients.update_attacks",
    "filtering": "strategies.filtering",
    "augmentation": "strategies.augmentation",
    "hook": "strategies.hooks",
    "indexing": "strategies.indexing",
    "preaggregation": "strategies.preaggregation",
    "aggregation": "strategies.aggregation",
    "attack": "learning.attacks",
    "score": "server.referee.scores",
    "optimizer": "learning.optimizers",
    "schedule": "learning.schedules",
    "server_optimizer": "learning.server_optimizers",
    "participation": "learning.participation",
}

DEFENCES: Final = (
    "filtering",
    "augmentation",
    "hook",
    "indexing",
    "preaggregation",
    "aggregation",
)

# What other packages can offer besides methods: no scenario names it, a command does.
TOOLS: Final[dict[str, str]] = {
    "tracker": "backfire.trackers.base.Tracker",
    "callback": "backfire.callbacks.base.Callback",
}

GROUP: Final = "backfire."
# Groups of entry points as they were called before they had their families' names.
OLD_GROUPS: Final[dict[str, str]] = {
    "attacks": "attack",
    "behaviours": "behaviour",
    "hooks": "hook",
    "models": "model",
    "triggers": "trigger",
    "updates": "update_attack",
}


def family_of(package: str) -> str | None:
    """Return the family whose methods a package holds; None where it is of none."""
    return next((family for family, there in FAMILIES.items() if there == package), None)
