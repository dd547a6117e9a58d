"""MLflow: a database in the run's folder, or the server that `MLFLOW_TRACKING_URI` names."""

from __future__ import annotations

import importlib
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backfire.trackers.base import Setting, Tracker

EXPERIMENT: Final = "backfire"
DATABASE: Final = "mlflow.db"
# What MLflow takes in a name; a longer value of a setting than this is refused.
_NOT_IN_NAMES: Final = re.compile(r"[^\w\-. :/]")
_LONGEST_VALUE: Final = 500
_AT_ONCE: Final = 100


class MLflow(Tracker):
    """Writes one MLflow run, and for a sweep a run below it for each cell.

    The experiment is `MLFLOW_EXPERIMENT_NAME`, or "backfire".

    Args:
        folder: Folder of the database.
        title: Name of the run.
    """

    def __init__(self, folder: Path, title: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        for chatty in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        own = f"sqlite:///{(folder / DATABASE).resolve()}"
        self._client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or own)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._title = title
        self._run: str = self._begin(title, {})

    def _begin(self, name: str, tags: Mapping[str, str]) -> str:
        # Without a user MLflow asks the machine for one.
        tags = {"mlflow.source.name": "backfire", "mlflow.user": "backfire", **tags}
        run = self._client.create_run(self._experiment, run_name=name, tags=tags)
        return str(run.info.run_id)

    def settings(self, values: Mapping[str, Setting]) -> None:
        """Keep the settings as the run's parameters."""
        self._keep(self._run, values, {}, 0)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Keep a metric each."""
        self._keep(self._run, {}, values, step)

    def cell(
        self, name: str, at: Mapping[str, Setting], values: Mapping[str, float], step: int
    ) -> None:
        """Keep a cell as a run below the sweep's, with its axes as parameters."""
        run = self._begin(name, {"mlflow.parentRunId": self._run})
        self._keep(run, at, values, step)
        self._client.set_terminated(run)

    def close(self, *, finished: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")

    def _keep(
        self, run: str, at: Mapping[str, Setting], values: Mapping[str, float], step: int
    ) -> None:
        params = [
            self._entities.Param(_name(name), str(value)[:_LONGEST_VALUE])
            for name, value in at.items()
        ]
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(_name(name), value, now, step) for name, value in values.items()
        ]
        for start in range(0, max(len(params), len(metrics)), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            self._client.log_batch(run, metrics=metrics[part], params=params[part])


def _name(name: str) -> str:
    """Return a name that MLflow takes: neither odd characters nor one that is no relative path."""
    return _NOT_IN_NAMES.sub("_", name).strip("/")[:250] or "_"
