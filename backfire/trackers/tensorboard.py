"""TensorBoard: event files that ``tensorboard --logdir`` shows; a sweep's cells as HParams."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backfire.trackers.base import Setting, Tracker


class TensorBoard(Tracker):
    """Writes event files with PyTorch's own writer.

    Args:
        folder: Folder of the event files.
        title: Name of what is played.
    """

    def __init__(self, folder: Path, title: str) -> None:
        module: Any = importlib.import_module("torch.utils.tensorboard")
        self._title = title
        self._writer = module.SummaryWriter(str(folder))

    def settings(self, values: Mapping[str, Setting]) -> None:
        """Keep the settings as a text."""
        # Markdown shows what is indented by four as it is.
        text = "\n".join(f"    {name}: {json.dumps(value)}" for name, value in values.items())
        self._writer.add_text(self._title, text)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Keep a scalar each."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def cell(
        self, name: str, at: Mapping[str, Setting], values: Mapping[str, float], step: int
    ) -> None:
        """Keep a cell as a run of its own, with its axes as hyperparameters."""
        self._writer.add_hparams(dict(at), dict(values), run_name=name, global_step=step)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()
