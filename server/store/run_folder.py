"""The run folder: all that is kept of a game, written so that it is never half there.

One process writes it; `result.json` comes last, so a run is done when that file is there and fits
its checksum. Whoever opens a finished folder treats it as untrusted: every file is a plain file of
bounded size, fits its SHA-256 and holds data only.

`report.html` is made from the other files and can be made again at any time; it alone has no
checksum.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from learning.pool import Floats
from server.errors import RunFolderError
from server.events import RESUMED
from server.referee.results import GameResult
from server.store import reading
from server.store.agents_table import agents_table
from server.store.atomic import (
    TEMPORARY,
    append_lines,
    json_bytes,
    write_bytes,
    write_table,
    write_tensors,
    yaml_bytes,
)
from server.store.environment import environment
from server.store.lock import Lock, Locked
from server.store.reading import MIB

if TYPE_CHECKING:
    from scenarios.scenario import Scenario
    from server.store.checkpoints import Checkpoints

SCENARIO = "scenario.yaml"
ENVIRONMENT = "environment.json"
ROUNDS = "rounds.jsonl"
RESULT = "result.json"
AGENTS = "agents.parquet"
MODEL = "model.safetensors"
GALLERY = "gallery.safetensors"
REPORT = "report.html"
CHECKSUMS = "checksums.json"
CHECKPOINTS = "checkpoints"

CHECKED = (SCENARIO, ENVIRONMENT, ROUNDS, AGENTS, MODEL, GALLERY, RESULT)

__all__ = ["RunFolder", "RunFolderError"]


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    A context manager: leaving it frees the folder for others, whether the run is finished or not.

    Attributes:
        path: The folder.
    """

    path: Path
    _lock: Lock | None = field(default=None, repr=False, compare=False)

    @classmethod
    def create(cls, root: Path, scenario: Scenario, *, overwrite: bool = False) -> RunFolder:
        """Make or take over the folder of a scenario, and write `scenario.yaml`.

        The folder is ``root/<slug>-<first 12 digits of the hash>``. A finished run of the same
        scenario stays, and the new one gets ``-2``, ``-3``, ...; an unfinished one is started
        anew, without its checkpoints.

        Args:
            root: Where runs live; made if need be.
            scenario: What will be played.
            overwrite: Whether a finished run of the same scenario is replaced.

        Raises:
            RunFolderError: If another process plays in the folder, or it cannot be written.
        """
        document = yaml_bytes(scenario.resolved())
        if len(document) > MIB:
            raise RunFolderError(
                f"expected a scenario of at most 1 MiB with every default written out, got "
                f"{len(document)} bytes: use `count` instead of one entry for each agent"
            )
        name = f"{scenario.slug()}-{scenario.digest()[:12]}"
        try:
            folder = cls._free(root, name, overwrite)
            folder._clear()
            folder.checkpoints(scenario.digest()).clear()
            write_bytes(folder.path / SCENARIO, document)
        except OSError as error:
            raise RunFolderError(
                f"{root / name}: expected a folder that can be written, got: "
                f"{error.strerror or error}; choose another with --out"
            ) from None
        return folder

    @classmethod
    def _free(cls, root: Path, name: str, overwrite: bool) -> RunFolder:
        for number in itertools.count(1):
            folder = cls._seize(root / (name if number == 1 else f"{name}-{number}"))
            if overwrite or not folder.finished():
                break
            folder.close()
        return folder

    @classmethod
    def _seize(cls, path: Path) -> RunFolder:
        path.mkdir(parents=True, exist_ok=True)
        try:
            return cls(path, Lock.take(path))
        except Locked as held:
            raise RunFolderError(
                f"{path}: expected a free run folder, but process {held.pid} is playing there; "
                "wait for it, or choose another folder with --out"
            ) from None

    def _clear(self) -> None:
        # The result goes first, so that no moment shows a finished run with files missing.
        for name in (RESULT, CHECKSUMS, REPORT, *CHECKED):
            (self.path / name).unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        for left_over in self.path.glob(f".*{TEMPORARY}"):
            left_over.unlink(missing_ok=True)

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Take the folder of a run that was cut off, as it is; `finished` says whether it was.

        Raises:
            RunFolderError: If there is no run, another process plays in the folder, or it cannot
                be written.
        """
        if not (path / SCENARIO).is_file():
            raise RunFolderError(f"{path}: expected a run folder, got none: there is no {SCENARIO}")
        try:
            folder = cls._seize(path)
        except OSError as error:
            raise RunFolderError(
                f"{path}: expected a folder that can be written, got: {error.strerror or error}"
            ) from None
        folder._sweep()
        return folder

    def checkpoints(self, digest: str, *, resuming: bool = False) -> Checkpoints:
        """Return the keeper of the game that is played in this folder.

        Args:
            digest: Hash of the scenario that is played.
            resuming: Whether it goes on from what was kept.
        """
        from server.store.checkpoints import Checkpoints  # readers of runs need not know Flower

        return Checkpoints(self.path / CHECKPOINTS, digest, resuming=resuming)

    def close(self) -> None:
        """Free the folder for other processes."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def finished(self) -> bool:
        """Return whether the run is done: `result.json` is there and fits its checksum."""
        try:
            data = reading.read_bytes(self.path / RESULT, reading.MAX_RESULT)
            return reading.read_checksums(self.path / CHECKSUMS).get(RESULT) == _sha256(data)
        except RunFolderError:
            return False

    # Writing; each of these raises RunFolderError where the disk refuses.

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: expected room for {what}, got: {error.strerror or error}"
            ) from None

    def write_environment(
        self,
        device: str,
        argv: Sequence[str] = (),
        runtime: str = "local",
        known: Mapping[str, Any] | None = None,
        plugins: Sequence[Mapping[str, Any]] = (),
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Write `environment.json`: versions, commit, time, and what was asked for.

        Args:
            device: The torch device that the game trains on.
            argv: The command line.
            runtime: Where the agents are.
            known: The whole of it, where the caller has it; finding it out takes a while.
            plugins: Where methods come from that are not of this house; they are part of the
                scenario's hash.
            files: The SHA-256 of each file that the model is read from, by its path.
        """
        found = dict(environment(device, argv, runtime) if known is None else known)
        if plugins:
            found[reading.PLUGINS] = list(plugins)
        if files:
            found["files"] = dict(files)
        with self._writing(ENVIRONMENT):
            write_bytes(self.path / ENVIRONMENT, json_bytes(found))

    def record(self, *records: Mapping[str, Any]) -> None:
        """Append records to `rounds.jsonl`, all or none of them."""
        with self._writing(ROUNDS):
            append_lines(self.path / ROUNDS, records)

    def write_model(self, models: Mapping[str, Tensor]) -> None:
        """Write `model.safetensors`; names are ``<defender>/<state_dict key>``."""
        with self._writing(MODEL):
            write_tensors(self.path / MODEL, models)

    def write_gallery(self, images: Mapping[str, Tensor]) -> None:
        """Write `gallery.safetensors`.

        Args:
            images: float32 (k, C, H, W) in [0, 1]: ``original/<agent>`` and
                ``triggered/<agent>`` (run-time inputs), ``poisoned_from/<agent>`` and
                ``poisoned/<agent>`` (contributed rows); of agents that aim at damage also
                ``poisoned_labels/<agent>``, the true and the contributed label, (k, 2, 1, 1).
        """
        with self._writing(GALLERY):
            write_tensors(self.path / GALLERY, images)

    def write_report(self, page: bytes) -> Path:
        """Write `report.html`, which may be done again at any time; return its path."""
        with self._writing(REPORT):
            write_bytes(self.path / REPORT, page)
        return self.path / REPORT

    def finish(self, result: GameResult) -> None:
        """Write `agents.parquet`, the checksums and, last, `result.json`; then free the folder.

        What was kept for a resume, with the agents' contributions, is then removed.

        Raises:
            RunFolderError: If the result is not one of this folder's scenario, or the disk
                refuses; the run is then unfinished.
        """
        self._check_scenario(result)
        with self._writing("the result"):
            write_table(self.path / AGENTS, agents_table(result))
            data = json_bytes(result)
            sums = {name: _sha256_of(self.path / name) for name in self._present()}
            write_bytes(self.path / CHECKSUMS, json_bytes({**sums, RESULT: _sha256(data)}))
            write_bytes(self.path / RESULT, data)
            self.checkpoints(result.scenario_hash).clear()
        self.close()

    def _present(self) -> list[str]:
        return [name for name in CHECKED if name != RESULT and (self.path / name).exists()]

    # Reading

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a finished run and check every file of it.

        Raises:
            RunFolderError: If it is no finished run, or a file does not fit its checksum, or the
                result is not one of the scenario; one line.
        """
        folder = cls(path)
        if not path.is_dir():
            raise RunFolderError(f"{path}: expected a run folder, got no folder")
        if not (path / RESULT).exists():
            raise RunFolderError(
                f"{path}: expected a finished run, got none: there is no {RESULT} "
                "(the run was stopped, or is still being played)"
            )
        folder._verify()
        folder._check_scenario(folder.result())
        return folder

    def _verify(self) -> None:
        sums = reading.read_checksums(self.path / CHECKSUMS)
        unknown = set(sums).difference(CHECKED)
        absent = {SCENARIO, RESULT, *self._present()}.difference(sums)
        if unknown or absent:
            raise RunFolderError(
                f"{self.path / CHECKSUMS}: expected the files of this folder, got "
                f"{sorted(unknown)[:3]} too many, {sorted(absent)[:3]} too few"
            )
        for name, expected in sums.items():
            found = _sha256_of(self.path / name)
            if found != expected:
                raise RunFolderError(
                    f"{self.path / name}: expected SHA-256 {expected[:12]}..., got "
                    f"{found[:12]}...: the file was changed or damaged"
                )

    def _check_scenario(self, result: GameResult) -> None:
        found = self.digest()
        if found != result.scenario_hash:
            raise RunFolderError(
                f"{self.path / RESULT}: expected the result of the scenario with hash "
                f"{found[:12]}, got {reading.short(result.scenario_hash, 12)}"
            )

    def result(self) -> GameResult:
        """Return the validated result.

        Raises:
            RunFolderError: If it is too large or no result; one line.
        """
        return reading.read_result(self.path / RESULT)

    def digest(self) -> str:
        """Return the hash of the game that is played here, as the files have it."""
        return reading.scenario_digest(self.path / SCENARIO, self.path / ENVIRONMENT)

    def scenario(self) -> dict[str, Any]:
        """Return the resolved scenario as plain values."""
        return reading.read_scenario(self.path / SCENARIO)

    def environment(self) -> dict[str, Any]:
        """Return the surroundings of the game; empty where they were not written."""
        path = self.path / ENVIRONMENT
        return reading.read_mapping(path) if path.exists() else {}

    def rounds(self) -> list[dict[str, Any]]:
        """Return the records of `rounds.jsonl` that count; see `counted`."""
        path = self.path / ROUNDS
        return counted(reading.read_lines(path)) if path.exists() else []

    def gallery(self) -> dict[str, Floats]:
        """Return the images, float32 (k, C, H, W), by the names of `write_gallery`."""
        path = self.path / GALLERY
        return reading.read_images(path) if path.exists() else {}


def counted(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of a log that count.

    A run that goes on after a crash plays again what no checkpoint held; its lines come after one
    with the phase ``resumed`` and stand for the earlier ones of the same phase, defender and round.
    """
    kept: list[dict[str, Any]] = []
    later: set[tuple[object, ...]] = set()
    now: set[tuple[object, ...]] = set()
    for record in reversed(records):
        key = tuple(record.get(name) for name in ("phase", "game", "defender", "round"))
        resumed = str(record.get("phase")).endswith(RESUMED)
        if resumed or key not in later:
            kept.append(dict(record))
        now.add(key)
        if resumed:
            later |= now
            now.clear()
    return kept[::-1]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_of(path: Path) -> str:
    with reading.plain_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
