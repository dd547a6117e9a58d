"""What a game or a sweep leaves, for use in Python; read from its folder, every file checked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from backfire.api.models import models_of
from backfire.api.tables import columns_of, figure, frame_of, html_table, interval
from backfire.evidence.long_table import SCORES, SWEEP, read_rows
from backfire.evidence.rows import ScoreRow, rows_of
from backfire.reporting.render import render
from backfire.sweeps.results import REPORT as SWEEP_REPORT
from backfire.sweeps.results import conclude
from learning.models.base import Architecture
from server.errors import RunFolderError
from server.referee.results import GameResult
from server.store import reading
from server.store.run_folder import REPORT, RunFolder

_HEADS = ("defender", "agents", "score", "value", "95 % interval", "n")


class FinishedGame:
    """A finished game.

    Args:
        folder: Its run folder.
        architecture: Its model, where that was an object from Python.

    Attributes:
        folder: The run folder.
        result: Everything that was scored, as in `result.json`.

    Raises:
        RunFolderError: If it is no finished run, or a file of it was changed; one line.
    """

    def __init__(self, folder: Path, architecture: Architecture | None = None) -> None:
        run = RunFolder.open(folder)
        self.folder = folder
        self.result: GameResult = run.result()
        self._run, self._architecture = run, architecture

    @cached_property
    def scores(self) -> list[ScoreRow]:
        """The scores as a long table: one row for each score of a defender, group or agent."""
        return rows_of(self.result, {}, self.folder.name)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the game says, in sentences, the finding first."""
        return tuple(self.result.verdict)

    @cached_property
    def scenario(self) -> Mapping[str, Any]:
        """The resolved scenario as plain values, every default written out."""
        return self._run.scenario()

    @cached_property
    def models(self) -> dict[str, nn.Module]:
        """The trained models, in evaluation mode on the CPU, by the names of `model.safetensors`.

        ``<defender>`` for a single model; ``<defender>/<agent>`` for those of an index,
        ``<defender>/<k>`` for members of an ensemble.

        Raises:
            RunFolderError: If they cannot be built from the folder; one line.
        """
        return models_of(self._run, self.result, self._architecture)

    @property
    def model(self) -> nn.Module:
        """The trained model of a game that ended with a single one.

        Raises:
            ValueError: If there are several; `models` has them by name.
        """
        if len(self.models) != 1:
            names = ", ".join(list(self.models)[:5])
            raise ValueError(f"expected one model, got {len(self.models)} ({names}): use .models")
        return next(iter(self.models.values()))

    def frame(self) -> Any:  # noqa: ANN401 - of pandas, or a dict
        """Return the long table as a pandas DataFrame; without pandas as a dict of columns."""
        return frame_of(columns_of(self.scores))

    def report(self) -> Path:
        """Return the path of the HTML report; it is made again where it is missing."""
        path = self.folder / REPORT
        return path if path.exists() else render(self.folder)

    def __repr__(self) -> str:
        return f"<{self.result.scenario}, seed {self.result.seed}: {self.folder}>"

    def _repr_html_(self) -> str:
        lines = (_line(row) for row in self.scores if not row.agent)
        said = self.verdict[0] if self.verdict else ""
        return html_table(f"{self.result.scenario}, seed {self.result.seed}. {said}", _HEADS, lines)


class FinishedSweep:
    """A finished sweep.

    Args:
        folder: Its folder.

    Attributes:
        folder: The folder.

    Raises:
        RunFolderError: If it is no finished sweep; one line.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / SCORES).is_file():
            raise RunFolderError(f"{folder}: expected a finished sweep, got none: no {SCORES}")
        self.folder = folder
        self.scores: list[ScoreRow] = read_rows(folder)

    @cached_property
    def scenario(self) -> Mapping[str, Any]:
        """The sweep's document as plain values."""
        return reading.read_scenario(self.folder / SWEEP)

    def frame(self) -> Any:  # noqa: ANN401 - of pandas, or a dict
        """Return the long table as a pandas DataFrame; without pandas as a dict of columns."""
        return frame_of(columns_of(self.scores))

    def report(self) -> Path:
        """Return the path of the HTML report; it is made again where it is missing."""
        path = self.folder / SWEEP_REPORT
        if not path.exists():
            conclude(self.folder)
        return path

    def __repr__(self) -> str:
        return f"<sweep of {len({row.cell for row in self.scores})} games: {self.folder}>"

    def _repr_html_(self) -> str:
        axes = list(self.scores[0].at) if self.scores else []
        lines = ((*row.at.values(), row.seed, *_line(row)) for row in self.scores if not row.agent)
        return html_table(self.folder.name, (*axes, "seed", *_HEADS), lines)


def load(path: str | Path) -> FinishedGame | FinishedSweep:
    """Return what a finished run or sweep left.

    Args:
        path: The run folder, or that of a sweep.

    Raises:
        RunFolderError: If it is neither, or a file of it was changed; one line.
    """
    folder = Path(path)
    return FinishedSweep(folder) if (folder / SWEEP).is_file() else FinishedGame(folder)


def _line(row: ScoreRow) -> tuple[object, ...]:
    shown = figure(row.value), interval(row.low, row.high), row.count or ""
    return row.defender, row.group or "", row.score, *shown
