"""Plays the cells of a sweep in one process, and keeps what they have in common.

What is shared is exact, so that a cell's scores do not depend on the cells before it: data sets and
deals, which follow from the scenario alone, and trained models
(`learning.training.engine.model_cache`), such as the attacker-free game that cells with other
triggers have in common.
"""

from __future__ import annotations

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backfire.playing import PlayError, play_in
from clients.agents import deal_scenario
from learning.data.partitioning import Partitioning
from learning.training.engine.engine import pick_device
from learning.training.engine.model_cache import ModelCache
from scenarios.scenario import Scenario
from server.store.environment import environment, files_of
from server.store.lock import Locked
from server.store.run_folder import CHECKPOINTS, RunFolder, RunFolderError

# A process that was killed with its sweep may hold its cell for a moment longer.
_PATIENCE: Final = 10.0
_DEALT: Final = ("data", "agents", "defender_share", "partition", "run_time_share", "seed")


def folder_of(root: Path, scenario: Scenario) -> Path:
    """Return where the run folder of a cell is."""
    return root / f"{scenario.slug()}-{scenario.digest()[:12]}"


def finished(path: Path, digest: str) -> bool:
    """Return whether a cell is played: its run is finished, whole, and of this very scenario."""
    if not path.is_dir():
        return False
    try:
        return RunFolder.open(path).result().scenario_hash == digest
    except RunFolderError:
        return False


class Player:
    """Plays cells one after the other.

    Args:
        keep_bytes: Memory for dealt data.
        model_bytes: Memory for models that other cells may need.
    """

    def __init__(self, keep_bytes: int = 2**30, model_bytes: int = 2**28) -> None:
        self._limit = keep_bytes
        self._deals: OrderedDict[str, Partitioning] = OrderedDict()
        self._known = ModelCache(model_bytes)
        self._environments: dict[str, dict[str, Any]] = {}

    def play(self, root: Path, scenario: Scenario) -> float:
        """Play a cell, or go on with one that was cut off; return the seconds of the game itself.

        Args:
            root: Folder of the cells' run folders.
            scenario: The cell's.

        Raises:
            PlayError: If it cannot be played.
            RunFolderError: If its folder cannot be written, or another process plays in it.
        """
        folder, resuming = self._opened(root, scenario)
        with folder:
            folder.write_environment(
                scenario.compute.device,
                known=self._environment(scenario),
                plugins=scenario.plugins(),
            )
            keeper = folder.checkpoints(scenario.digest(), resuming=resuming)
            started = time.perf_counter()
            play_in(folder, scenario, keeper, dealt=self._deal(scenario), known=self._known)
            return time.perf_counter() - started

    def _opened(self, root: Path, scenario: Scenario) -> tuple[RunFolder, bool]:
        """Return the cell's run folder, and whether something is kept there to go on from."""
        path, digest = folder_of(root, scenario), scenario.digest()
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                if _can_resume(path, digest):
                    return RunFolder.reopen(path), True
                return RunFolder.create(root, scenario, overwrite=True), False
            except RunFolderError as error:
                if not isinstance(error.__context__, Locked) or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def _deal(self, scenario: Scenario) -> Partitioning:
        resolved = scenario.resolved()
        names = [[agent["name"], agent["count"]] for agent in resolved["agents"]]
        private = [
            a["behaviour"] for a in resolved["agents"] if a["behaviour"]["kind"] == "private"
        ]
        key = json.dumps([{k: resolved[k] for k in _DEALT if k != "agents"}, names, private])
        if key not in self._deals:
            try:
                self._deals[key] = deal_scenario(scenario)
            except (ValueError, OSError) as error:
                raise PlayError(" ".join(str(error).split())) from error
            while len(self._deals) > 1 and sum(map(_size, self._deals.values())) > self._limit:
                self._deals.popitem(last=False)
        self._deals.move_to_end(key)
        return self._deals[key]

    def _environment(self, scenario: Scenario) -> Mapping[str, Any]:
        name = scenario.compute.device
        if name not in self._environments:
            try:
                device = str(pick_device(name))
            except (ValueError, RuntimeError) as error:
                raise PlayError(" ".join(str(error).split())) from error
            self._environments[name] = environment(device, sys.argv, "local")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        files = files_of(scenario)
        return self._environments[name] | {"started": now} | ({"files": files} if files else {})


def _can_resume(path: Path, digest: str) -> bool:
    """Return whether a run was cut off after the agents had handed something over."""
    if not (path / CHECKPOINTS).is_dir() or RunFolder(path).finished():
        return False
    try:
        return RunFolder(path).digest() == digest
    except RunFolderError:
        return False


def _size(deal: Partitioning) -> int:
    return deal.data.x_train.nbytes + deal.data.x_test.nbytes
