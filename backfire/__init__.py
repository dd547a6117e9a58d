"""Backfire: a game table for poisoned collaborative learning.

`play`, `resume`, `sweep`, `load` and `compare` are what programs and notebooks use
(`docs/python.md`). Beside them stand the base classes of methods of one's own and the checks of
their conformance. Nothing is imported before it is asked for, so that `import backfire` is quick.

The names of `__all__` follow semantic versioning; everything else may change with any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from backfire.api.comparing import Comparison, compare
    from backfire.api.games import play, resume, sweep
    from backfire.api.results import FinishedGame, FinishedSweep, load
    from backfire.callbacks.base import Callback
    from backfire.playing import PlayError
    from clients.data_attacks.base import Behaviour
    from clients.update_attacks.base import UpdateAttack
    from learning.data.base import DataSet, DataSource
    from learning.models.base import Architecture
    from learning.models.conformance import check_architecture
    from learning.triggers.base import Trigger
    from scenarios.scenario import Scenario
    from scenarios.text.errors import ScenarioError
    from server.errors import RunFolderError
    from server.events import Event
    from strategies.aggregation.base import Aggregator
    from strategies.base import Augmentation, Filter, TrainingHook

    __version__: str

__all__ = [
    "Aggregator",
    "Architecture",
    "Augmentation",
    "Behaviour",
    "Callback",
    "Comparison",
    "DataSet",
    "DataSource",
    "Event",
    "Filter",
    "FinishedGame",
    "FinishedSweep",
    "PlayError",
    "RunFolderError",
    "Scenario",
    "ScenarioError",
    "TrainingHook",
    "Trigger",
    "UpdateAttack",
    "__version__",
    "check_architecture",
    "compare",
    "load",
    "play",
    "resume",
    "sweep",
]

_HOMES: Final = {
    "Aggregator": "strategies.aggregation.base",
    "Architecture": "learning.models.base",
    "Augmentation": "strategies.base",
    "Behaviour": "clients.data_attacks.base",
    "Callback": "backfire.callbacks.base",
    "Comparison": "backfire.api.comparing",
    "DataSet": "learning.data.base",
    "DataSource": "learning.data.base",
    "Event": "server.events",
    "Filter": "strategies.base",
    "FinishedGame": "backfire.api.results",
    "FinishedSweep": "backfire.api.results",
    "PlayError": "backfire.playing",
    "RunFolderError": "server.errors",
    "Scenario": "scenarios.scenario",
    "ScenarioError": "scenarios.text.errors",
    "TrainingHook": "strategies.base",
    "Trigger": "learning.triggers.base",
    "UpdateAttack": "clients.update_attacks.base",
    "check_architecture": "learning.models.conformance",
    "compare": "backfire.api.comparing",
    "load": "backfire.api.results",
    "play": "backfire.api.games",
    "resume": "backfire.api.games",
    "sweep": "backfire.api.games",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'backfire' has no attribute {name!r}")
    surroundings = import_module("backfire.environment")
    surroundings.own_rooms_first()
    surroundings.prepare()  # before Flower is imported
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("backfire"))
    except metadata.PackageNotFoundError:
        return "0+source"
