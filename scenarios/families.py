"""The families of methods, and the folders in which their methods are found by name."""

from __future__ import annotations

from typing import Final

# Those of clients/ and strategies/ stand above this folder: found by name, not imported.
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
}

DEFENCES: Final = (
    "filtering",
    "augmentation",
    "hook",
    "indexing",
    "preaggregation",
    "aggregation",
)
