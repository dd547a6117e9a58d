"""Weights & Biases: offline unless `WANDB_MODE` says otherwise; ``wandb sync`` uploads later."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backfire.trackers.base import Setting, Tracker

# W&B drops numbers of an earlier step than its last; ours is a number beside them.
STEP: Final = "step"
PROJECT: Final = "backfire"


class WandB(Tracker):
    """Writes one W&B run.

    The project is `WANDB_PROJECT`, or "backfire". Neither machine, code nor console is
    recorded; the names and versions of installed packages are.

    Args:
        folder: Folder of the run's files.
        title: Name of the run.
    """

    def __init__(self, folder: Path, title: str) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb: Any = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=title,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            # More than one run at a time, and none that is the process's own.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        self._run.define_metric("*", step_metric=STEP)

    def settings(self, values: Mapping[str, Setting]) -> None:
        """Keep the settings as the run's config."""
        self._run.config.update(dict(values), allow_val_change=True)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Keep a line of the run's history."""
        self._run.log({STEP: step, **values})

    def cell(
        self, name: str, at: Mapping[str, Setting], values: Mapping[str, float], step: int
    ) -> None:
        """Keep a cell as a line of the run's history, with its axes in it."""
        axes = {f"at/{axis}": value for axis, value in at.items()}
        self._run.log({STEP: step, "cell": name, **axes, **values})

    def close(self, *, finished: bool) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if finished else 1)
