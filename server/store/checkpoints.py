"""Checkpoints: what a run folder keeps of a game until it is finished.

``checkpoints/<game>/`` holds

- ``<part>.<column>.rows`` and ``<part>.<SHA-256>.json``: what the agents handed over, and who was
  refused; written once, so that no agent is asked again (`server.store.contributions`);
- ``round-000012.<SHA-256>.safetensors``: the game after a round (`server.games.federated_state`);
  the last two are kept. `taken_apart`'s JSON is the tensor ``facts``.

A file's name holds the SHA-256 of all its bytes, so whatever was changed, torn or cut off is found
before anything of it is read. Each is bound to the hash of the scenario and to the version of
Backfire. A checkpoint is flushed to the disk before it has its name; rows are not: were they lost
with the machine's power, that is found, and the agents are asked again.

Keeping costs at most a tenth of the time: after a checkpoint that took t seconds, rounds that end
within the next 9 t are played again by a game that goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from server.errors import RunFolderError
from server.events import Event
from server.games.checkpointer import Checkpointer, Collected, resumed_event
from server.games.federated_state import FederationFacts, FederationState, put_together, taken_apart
from server.referee.results import Quarantine
from server.store import atomic, reading
from server.store.contributions import SUFFIX, Disk
from server.store.environment import version
from server.wire.admission import ContributionStore, Wanted
from server.wire.tensors import chunks

FORMAT: Final = 1
# Of the time of a game that checkpoints may take.
SHARE = 0.1

_ROUND = re.compile(r"round-(\d{6,7})\.([0-9a-f]{64})\.safetensors")
_PART = re.compile(r"([a-z_]+)\.([0-9a-f]{64})\.json")
_FACTS: Final = "facts"


class _Bound(BaseModel):
    """What a file belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    format: Literal[1] = FORMAT
    backfire: str
    scenario: str = Field(pattern="^[0-9a-f]{64}$")
    game: str


class _RoundRecord(_Bound):
    """What a checkpoint belongs to; `rows` is a hash of what the agents handed over."""

    round: int
    rows: str


class _Part(_Bound):
    """What agents handed over: who was asked for how many rows, who is admitted, and the sums."""

    part: str
    wanted: tuple[tuple[str, int], ...]
    columns: tuple[tuple[str, str, tuple[int, ...]], ...]
    admitted: tuple[str, ...]
    quarantined: tuple[Quarantine, ...]
    sums: dict[str, str]


class Checkpoints(Checkpointer):
    """A keeper that writes into a run folder.

    Args:
        folder: ``checkpoints/`` of the run, or the part of it that belongs to one game.
        scenario: Hash of the scenario.
        resuming: Whether the game goes on; one that begins finds nothing.
        game: Which game the folder belongs to.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        folder: Path,
        scenario: str,
        *,
        resuming: bool = False,
        game: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._resuming, self._clock = folder, resuming, clock
        self._bound = _Bound(backfire=version(), scenario=scenario, game=game)
        self._parts: dict[str, str] = {}
        self._asked: list[str] = []
        self._damaged: list[str] = []
        self._last: Path | None = None
        self._saved: tuple[float, float] | None = None

    def of(self, game: str) -> Checkpoints:
        """See `Checkpointer.of`."""
        return Checkpoints(
            self._folder / game,
            self._bound.scenario,
            resuming=self._resuming,
            game=game,
            clock=self._clock,
        )

    # What the agents handed over

    def collected(
        self, part: str, wanted: Sequence[Wanted], ask: Callable[[ContributionStore], Collected]
    ) -> Collected:
        """See `Checkpointer.collected`.

        Raises:
            RunFolderError: If the disk refuses, or what was kept is of another game.
        """
        with self._writing(part):
            self._folder.mkdir(parents=True, exist_ok=True)
        shelf = Disk(self._folder, part, wanted)
        kept = self._kept(part, wanted, shelf) if self._resuming else None
        if kept is not None:
            return shelf.rows(kept.admitted), list(kept.quarantined)
        self._asked.append(part)
        with self._writing(part):
            with shelf.filled():
                rows, refused = ask(shelf)
            self._seal(self._part(part, wanted, tuple(rows), tuple(refused), shelf.sums()))
        return rows, refused

    def _part(
        self,
        part: str,
        wanted: Sequence[Wanted],
        admitted: tuple[str, ...],
        refused: tuple[Quarantine, ...],
        sums: Mapping[str, str],
    ) -> _Part:
        return _Part(
            **self._bound.model_dump(),
            part=part,
            wanted=tuple((want.agent, want.rows) for want in wanted),
            columns=wanted[0].columns if wanted else (),
            admitted=admitted,
            quarantined=refused,
            sums=dict(sums),
        )

    def _seal(self, sealed: _Part) -> None:
        data = atomic.json_bytes(sealed)
        self._parts[sealed.part] = _sha256((data,))
        for old in self._files(_PART):
            if old.name.startswith(f"{sealed.part}."):
                old.unlink()
        (self._folder / f"{sealed.part}.{self._parts[sealed.part]}.json").write_bytes(data)

    def _kept(self, part: str, wanted: Sequence[Wanted], shelf: Disk) -> _Part | None:
        for path in self._files(_PART):
            name, expected = _groups(_PART, path)
            if name != part:
                continue
            try:
                data = _content(path, expected, reading.MAX_RESULT)
                found = _Part.model_validate_json(data)
                self._check(path, found)
                fits = self._part(part, wanted, found.admitted, found.quarantined, _sums(shelf))
                if found == fits and dict(found.wanted).keys() >= set(found.admitted):
                    self._parts[part] = expected
                    return found
            except (ValidationError, _Damaged):
                pass
            self._damaged.append(part)
        return None

    # The game after a round

    def newest(self) -> FederationState | None:
        """See `Checkpointer.newest`: the checkpoint of the last round that is whole.

        Raises:
            RunFolderError: If a whole checkpoint is of another scenario, game or version.
        """
        for path in sorted(self._files(_ROUND), reverse=True):
            number = int(_groups(_ROUND, path)[0])
            try:
                progress = self._read(path, number)
            except _Damaged as reason:
                self._damaged.append(f"round {number} ({reason})")
                continue
            self._last = path
            return progress
        return None

    def _read(self, path: Path, number: int) -> FederationState:
        _content(path, _groups(_ROUND, path)[1])
        try:
            with safe_open(path, framework="pt") as whole:
                about = _RoundRecord.model_validate_json((whole.metadata() or {}).get("about", ""))
                self._check(path, about)
                tensors = {name: whole.get_tensor(name) for name in whole.keys()}  # noqa: SIM118
            facts = FederationFacts.model_validate_json(tensors.pop(_FACTS).numpy().tobytes())
            progress = put_together(facts, tensors)
        except (SafetensorError, ValidationError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(
                f"{path}: expected a checkpoint, got: {reading.short(error)}"
            ) from None
        if about.round != number or facts.round != number:
            raise RunFolderError(f"{path}: expected the checkpoint of round {number}, got another")
        if about.rows != self._rows():
            raise _Damaged("made with other run-time sets")
        return progress

    def keep(self, progress: FederationState, *, last: bool) -> None:
        """See `Checkpointer.keep`.

        Raises:
            RunFolderError: If the disk refuses; the checkpoints before are then as they were.
        """
        begun = self._clock()
        if self._saved is not None and not last:
            ended, took = self._saved
            if begun - ended < took * (1 / SHARE - 1):
                return
        facts, tensors = taken_apart(progress)
        about = _RoundRecord(**self._bound.model_dump(), round=progress.round, rows=self._rows())
        tensors[_FACTS] = torch.frombuffer(
            bytearray(atomic.json_bytes(facts, indent=None)), dtype=torch.uint8
        )
        with self._writing(f"the checkpoint of round {progress.round}"):
            self._write(progress.round, tensors, {"about": about.model_dump_json()})
        ended = self._clock()
        self._saved = (ended, ended - begun)

    def _write(self, number: int, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        expected = _sha256(chunks(tensors, about))
        path = self._folder / f"round-{number:06d}.{expected}.safetensors"
        atomic.write_chunks(path, chunks(tensors, about))
        for old in self._files(_ROUND):
            if old not in (path, self._last):
                old.unlink()
        self._last = path

    def resumed(self, total: int, progress: FederationState | None = None) -> Event | None:
        """See `Checkpointer.resumed`."""
        if not self._resuming:
            return None
        done = 0 if progress is None else progress.round
        note = f"after round {done}" if done else "from the beginning"
        if not total:
            note = "agents are asked again" if self._asked else "with the contributions kept"
        if self._damaged:
            note += f"; damaged: {', '.join(self._damaged)}"
        facts = {"round": done, "damaged": self._damaged, "asked_again": self._asked}
        return resumed_event(total, done, facts, note)

    def clear(self) -> None:
        """Remove all that was kept, and nothing else."""
        for path in (*self._files(_ROUND), *self._files(_PART), *self._others()):
            path.unlink(missing_ok=True)
        if not self._bound.game:
            for game in ("pooled", "federated"):
                self.of(game).clear()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _others(self) -> Iterator[Path]:
        if self._folder.is_dir() and not self._folder.is_symlink():
            yield from self._folder.glob(f"*{SUFFIX}")
            yield from self._folder.glob(f".*{atomic.TEMPORARY}")

    def _files(self, kind: re.Pattern[str]) -> list[Path]:
        if not self._folder.is_dir() or self._folder.is_symlink():
            return []
        return [path for path in self._folder.iterdir() if kind.fullmatch(path.name)]

    def _rows(self) -> str:
        return _sha256((json.dumps(self._parts, sort_keys=True).encode(),))

    def _check(self, path: Path, found: _Bound) -> None:
        expected = self._bound
        if found.scenario != expected.scenario or found.game != expected.game:
            raise RunFolderError(
                f"{path}: expected a checkpoint of the scenario {expected.scenario[:12]}, got one "
                f"of {found.scenario[:12]}: the scenario was changed, or the file is "
                "another run's; play it anew with `backfire run`"
            )
        if found.backfire != expected.backfire:
            raise RunFolderError(
                f"{path}: expected a checkpoint of Backfire {expected.backfire}, got one of "
                f"{reading.short(found.backfire, 20)}: go on with that version, or play it anew "
                "with `backfire run`"
            )

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except RunFolderError:
            raise
        except OSError as error:
            raise RunFolderError(
                f"{self._folder}: expected room for {what}, got: {error.strerror or error}"
            ) from None


class _Damaged(Exception):
    """A file that cannot be used; another may be."""


def _sha256(pieces: Iterable[bytes | memoryview]) -> str:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return whole.hexdigest()


def _content(path: Path, expected: str, limit: int = 0) -> bytes:
    """Check the SHA-256 of a file; return the content of one of up to `limit` bytes."""
    try:
        with reading.plain_file(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        data = reading.read_bytes(path, limit) if limit else b""
    except RunFolderError:
        raise _Damaged("no file that can be read") from None
    if found != expected:
        raise _Damaged("changed or cut off")
    return data


def _sums(shelf: Disk) -> dict[str, str]:
    try:
        return shelf.sums()
    except RunFolderError:
        raise _Damaged("rows are missing") from None


def _groups(kind: re.Pattern[str], path: Path) -> tuple[str, str]:
    found = kind.fullmatch(path.name)
    assert found is not None  # noqa: S101 - `_files` names no others
    return found[1], found[2]
