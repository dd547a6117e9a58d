"""A finished sweep as its report and its card see it: its table, and what it was played with."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from backfire.evidence.learnt import ACCURACIES, CONSTANT, is_void, tells_of_attacks
from backfire.evidence.long_table import SWEEP, read_rows
from backfire.evidence.published.judging import PaperBesideOurs, side_by_side
from backfire.evidence.rows import ScoreRow
from backfire.evidence.series import Series, Setting, collect
from scenarios.loader import load_sweep
from scenarios.sweep.published import ALL_ATTACKERS, Published
from scenarios.sweep.spec import Sweep, SweepSpec
from scenarios.text.errors import ScenarioError
from scenarios.text.quoting import printable
from server.errors import RunFolderError
from server.store.reading import read_mapping

CELLS: Final = "cells"
# Whatever else surrounds a game differs from machine to machine and changes no score.
_SURROUNDINGS: Final = ("python", "processor", "device", "device_name", "commit")
_MOST_CELLS: Final = 500

# What is drawn first where nobody says what matters.
_FAVOURITES: Final = ("asr_source", "asr", "asr_all")


@dataclass(frozen=True)
class SweepTable:
    """A finished sweep as the report sees it.

    Attributes:
        name: The sweep's.
        description: What it is about; "" where it does not say.
        digest: The sweep's hash.
        seeds: Its seeds.
        cells: Games that were played.
        spec: Its block ``sweep:``.
        published: What a paper says; None for no reproduction.
        rows: The long table.
        replay: The command that plays it again.
        versions: Of the packages that matter, by name.
    """

    name: str
    description: str
    digest: str
    seeds: tuple[int, ...]
    cells: int
    spec: SweepSpec
    published: Published | None
    rows: Sequence[ScoreRow]
    replay: str
    versions: Mapping[str, str]

    @cached_property
    def axes(self) -> dict[str, tuple[Setting, ...]]:
        """The axes with their values, without those that only go along with another."""
        along = {name for group in self.spec.together for name in group[1:]}
        return {
            name: axis.coordinates for name, axis in self.spec.axes.items() if name not in along
        }

    @cached_property
    def defenders(self) -> tuple[str, ...]:
        """The defenders, in order."""
        return tuple(dict.fromkeys(row.defender for row in self.rows))

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """The scores that have a value somewhere."""
        return tuple(dict.fromkeys(row.score for row in self.rows if row.value is not None))

    @cached_property
    def main(self) -> str:
        """The attack's score that this sweep is about."""
        wanted = [self.spec.payoffs.score] if self.spec.payoffs else []
        if self.published is not None:
            sides = [claim.first for claim in self.published.claims]
            said = [*self.published.figures, *sides]
            wanted += [one.score for one in said if one.score and one.score.startswith("asr")]
        known = [*wanted, *_FAVOURITES, *self.scores]
        return next((score for score in known if score in self.scores), "asr")

    @cached_property
    def side(self) -> PaperBesideOurs | None:
        """What the paper says beside what was found; None for no reproduction."""
        if self.published is None:
            return None
        return side_by_side(self.published, self.rows, self.spec.together)

    def series(self, score: str) -> list[Series]:
        """Return a score everywhere: over all malicious agents, or the defender's own."""
        if score not in self._collected:
            found = collect(self.rows, score)
            group = ALL_ATTACKERS if any(one.group == ALL_ATTACKERS for one in found) else ""
            self._collected[score] = [one for one in found if one.group == group]
        return self._collected[score]

    @cached_property
    def _collected(self) -> dict[str, list[Series]]:
        return {}

    @cached_property
    def void(self) -> frozenset[tuple[object, ...]]:
        """Cells with a defender whose model has not learnt there, as `spot_key` has them."""
        known = {
            name: {spot_key(one.at, one.defender): one.values for one in self.series(name)}
            for name in (*ACCURACIES, CONSTANT)
        }
        return frozenset(
            key
            for key, constant in known[CONSTANT].items()
            if is_void((known[name][key] for name in ACCURACIES if key in known[name]), constant)
        )

    def living(self, score: str) -> Sequence[ScoreRow]:
        """Return the rows to compare by a score.

        Of scores that tell of attacks these are the rows of defenders whose model has learnt in
        every cell, so that all cells are compared with the same defenders.
        """
        dead = {key[-1] for key in self.void} if tells_of_attacks(score) else set()
        return [row for row in self.rows if row.defender not in dead]

    @cached_property
    def dots(self) -> dict[tuple[object, ...], list[float]]:
        """Each agent's value in each seed, by `spot_key` and score."""
        found: dict[tuple[object, ...], list[float]] = {}
        for row in self.rows:
            if row.agent and row.value is not None:
                key = (*spot_key(row.at, row.defender), row.score)
                found.setdefault(key, []).append(row.value)
        return found

    def title(self, axis: str) -> str:
        """Return an axis' name with those that go along with it."""
        along = [name for group in self.spec.together if axis in group for name in group[1:]]
        return axis + (f" (with {', '.join(along)})" if along else "")


def spot_key(at: Mapping[str, Setting], defender: str) -> tuple[object, ...]:
    """Return a key of a cell and a defender that tells true from 1."""
    return (*((isinstance(value, bool), value) for value in at.values()), defender)


def read_sweep(folder: Path) -> tuple[Sweep, SweepTable]:
    """Read the folder of a finished sweep.

    Returns:
        The sweep with all its cells, and what its report shows.

    Raises:
        RunFolderError: If it holds no finished sweep, or was damaged; one line.
    """
    rows = read_rows(folder)
    try:
        sweep = load_sweep(folder / SWEEP)
    except ScenarioError as error:
        raise RunFolderError(error.lines[0]) from None
    cells = list(dict.fromkeys(row.cell for row in rows))
    name = printable(folder.resolve().name)
    replay = f"backfire sweep {shlex.quote(name)}/{SWEEP}"
    played_with = versions(folder / CELLS / cell for cell in cells[:_MOST_CELLS])
    return sweep, table_of(sweep, rows, replay, played_with)


def table_of(
    sweep: Sweep, rows: Sequence[ScoreRow], replay: str, played_with: Mapping[str, str]
) -> SweepTable:
    """Return what is said of a sweep whose scores are known.

    Args:
        sweep: The sweep with all its cells.
        rows: The long table.
        replay: The command that plays it again.
        played_with: As `versions` returns it.
    """
    return SweepTable(
        name=sweep.name,
        description=" ".join(str(sweep.base.get("description") or "").split()),
        digest=sweep.digest(),
        seeds=sweep.spec.all_seeds(),
        cells=len({row.cell for row in rows}),
        spec=sweep.spec,
        published=sweep.published,
        rows=rows,
        replay=replay,
        versions=played_with,
    )


def versions(cells: Iterable[Path]) -> dict[str, str]:
    """Return what the games of a sweep were played with: packages, Python, device, commit.

    Where games differ in it, all that was seen is told, in alphabetical order.
    """
    seen: dict[str, set[str]] = {}
    for cell in cells:
        for name, value in _surroundings(cell):
            seen.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(found)) for name, found in sorted(seen.items())}


def _surroundings(cell: Path) -> Iterable[tuple[str, str]]:
    try:
        found: Mapping[str, Any] = read_mapping(cell / "environment.json")
    except RunFolderError:
        return []
    packages = found.get("packages")
    named = {name: found[name] for name in _SURROUNDINGS if found.get(name) is not None}
    named |= packages if isinstance(packages, Mapping) else {}
    return [(printable(str(name), 64), printable(str(value), 120)) for name, value in named.items()]
