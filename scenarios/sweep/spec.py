"""Sweeps: one scenario played in many variants, a cell for each combination of values and seed.

A sweep file is a scenario with a ``sweep:`` block. Its axes name the fields that vary; the order of
axes and values in the file is the order of the cells, the last axis and then the seed varying
fastest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from learning.frozen import Frozen
from scenarios.scenario import Scenario
from scenarios.schema import Name
from scenarios.sweep.published import Published
from scenarios.text.problems import Path, Problem
from scenarios.text.quoting import listing, nearest, shown

MAX_CELLS: Final = 20_000
_PUBLISHED: Final = "What a paper says about these games, to be set beside what is played."

# The columns of a sweep's table, which no axis can be called like.
COLUMNS: Final = (
    "seed", "cell", "defender", "group", "agent", "score", "value", "hits", "count", "low", "high",
    "std", "agents",
)  # fmt: skip

Coordinate = str | int | float | bool
At = Mapping[str, Coordinate]
_Coordinate = StrictBool | StrictInt | StrictFloat | StrictStr
_Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Axis(Frozen):
    """What varies along an axis: the values of one field, or named choices that set any fields."""

    field: str | None = Field(
        None,
        min_length=1,
        max_length=400,
        description="Path of the field, as for --set: agents.mallory.count.",
    )
    values: tuple[_Coordinate, ...] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Its values: numbers, text, true or false. For other values use choices.",
    )
    choices: dict[Name, dict[str, Any]] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="In place of field and values: by name, the fields that a choice sets, each a "
        "path as for --set with its value; an empty mapping leaves the scenario as it is.",
    )

    @field_validator("values")
    @classmethod
    def _check_values(cls, values: tuple[Coordinate, ...] | None) -> tuple[Coordinate, ...] | None:
        if values is not None and len({_told(value) for value in values}) < len(values):
            raise ValueError("expected each value once")
        return values

    @model_validator(mode="after")
    def _check_form(self) -> Axis:
        by_field = self.field is not None and self.values is not None and self.choices is None
        by_choice = self.field is None and self.values is None and self.choices is not None
        if not by_field and not by_choice:
            raise ValueError("expected field and values, or choices")
        return self

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """What the axis is at, one after the other."""
        return tuple(self.choices or ()) if self.values is None else self.values

    def changes(self, position: int) -> Iterator[tuple[str, Path]]:
        """Yield the fields that are set at a position, with the place of each value in the axis."""
        if self.field is not None:
            yield self.field, ("values", position)
            return
        name = list(self.choices or ())[position]
        for field in (self.choices or {})[name]:
            yield field, ("choices", name, field)


class PayoffSpec(Frozen):
    """Whose choices the axes are: for payoff tables and equilibria (S0 Eq. 1 to 3)."""

    attacker: tuple[Name, ...] = Field(
        min_length=1,
        max_length=8,
        description="Axes whose combinations are the attackers' strategies; the defenders are the "
        "defender's.",
    )
    score: Name = Field("asr", description="The attackers' payoff.")


class SweepSpec(Frozen):
    """The block ``sweep:`` of a sweep file."""

    seeds: Annotated[int, Field(ge=1, le=1000)] | tuple[_Seed, ...] = Field(
        5,
        description="A number of seeds, which are 0, 1, ...; or a list of seeds.",
        json_schema_extra={"origin": "ours"},
    )
    axes: dict[Name, Axis] = Field(
        default_factory=dict, max_length=12, description="What varies, by the axis' name."
    )
    together: tuple[tuple[Name, ...], ...] = Field(
        (),
        description="Groups of axes that go from value to value together; all others are crossed.",
    )
    omit: tuple[dict[Name, _Coordinate], ...] = Field(
        (),
        max_length=1000,
        description="Combinations left out: each names axes with one value of each.",
    )
    payoffs: PayoffSpec | None = Field(
        None, description="Which axes are choices of the attackers, for payoffs and equilibria."
    )

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(seeds, tuple) and not 1 <= len(set(seeds)) == len(seeds) <= 1000:
            raise ValueError("expected 1 to 1000 seeds, each once")
        return seeds

    @model_validator(mode="after")
    def _check(self) -> SweepSpec:
        problems = list(_problems(self))
        if problems:
            message = "; ".join(problem.message for problem in problems)
            context = {"message": message, "problems": problems}
            raise PydanticCustomError("cross_check", "{message}", context)
        return self

    def all_seeds(self) -> tuple[int, ...]:
        """Return the seeds."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def combinations(self) -> list[dict[str, int]]:
        """Return the combinations that are played, as a position on each axis, in file order."""
        leaders = {name: group for group in self.together for name in group}
        blocks: dict[str, tuple[str, ...]] = {}
        for name in self.axes:
            group = leaders.get(name, (name,))
            blocks.setdefault(min(group, key=list(self.axes).index), group)
        sizes = [range(len(self.axes[name].coordinates)) for name in blocks]
        found = (
            {
                name: position
                for group, position in zip(blocks.values(), positions, strict=True)
                for name in group
            }
            for positions in product(*sizes)
        )
        ordered = ({name: one[name] for name in self.axes} for one in found)
        return [one for one in ordered if not self._omitted(self.at(one))]

    def at(self, positions: Mapping[str, int]) -> dict[str, Coordinate]:
        """Return the coordinates of a combination."""
        return {name: self.axes[name].coordinates[k] for name, k in positions.items()}

    def _omitted(self, at: At) -> bool:
        return any(
            all(_told(at[name]) == _told(value) for name, value in entry.items())
            for entry in self.omit
        )


def _told(value: Coordinate) -> tuple[bool, Coordinate]:
    """Return a value that tells true from 1."""
    return isinstance(value, bool), value


def _problems(spec: SweepSpec) -> Iterator[Problem]:
    yield from _axes(spec)
    yield from _together(spec)
    for position, entry in enumerate(spec.omit):
        yield from _omit(spec, entry, position)
    for place, name in enumerate(spec.payoffs.attacker if spec.payoffs else ()):
        yield from _known(spec, name, ("sweep", "payoffs", "attacker", place))
    cells = len(spec.all_seeds())
    leading = {name for group in spec.together for name in group[1:]}
    for name, axis in spec.axes.items():
        cells *= 1 if name in leading else len(axis.coordinates)
    if cells > MAX_CELLS:
        message = f"expected at most {MAX_CELLS} cells before omissions, got {cells}"
        yield Problem(("sweep",), message)


def _axes(spec: SweepSpec) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, axis in spec.axes.items():
        if name in COLUMNS:
            message = f"expected a name that is no column of the table, got {shown(name)}"
            yield Problem(("sweep", "axes", name), message)
        fields = dict.fromkeys(
            field for k in range(len(axis.coordinates)) for field, _ in axis.changes(k)
        )
        for field in fields:
            if field.strip() == "seed":
                message = "expected another field than the seed: sweep.seeds has them"
                yield Problem(("sweep", "axes", name), message)
            if field in seen:
                message = f"expected a field that no other axis sets, got {shown(field)}, which "
                yield Problem(("sweep", "axes", name), message + f"{seen[field]} sets")
            seen[field] = name


def _together(spec: SweepSpec) -> Iterator[Problem]:
    seen: set[str] = set()
    for position, group in enumerate(spec.together):
        path = ("sweep", "together", position)
        if len(group) < 2:
            yield Problem(path, f"expected at least two axes, got {len(group)}")
        unknown = [found for name in group for found in _known(spec, name, path)]
        yield from unknown
        for name in group:
            if name in seen:
                yield Problem(path, f"expected each axis once, got {shown(name)} again")
            seen.add(name)
        sizes = [] if unknown else [len(spec.axes[name].coordinates) for name in group]
        if len(set(sizes)) > 1:
            many = ", ".join(f"{size} of {name}" for name, size in zip(group, sizes, strict=True))
            yield Problem(path, f"expected axes with as many values as each other, got {many}")


def _omit(spec: SweepSpec, entry: At, position: int) -> Iterator[Problem]:
    path: Path = ("sweep", "omit", position)
    if not entry:
        yield Problem(path, "expected at least one axis with a value, got none")
    for name, value in entry.items():
        unknown = list(_known(spec, name, (*path, name)))
        yield from unknown
        if not unknown and _told(value) not in map(_told, spec.axes[name].coordinates):
            known = listing(map(str, spec.axes[name].coordinates))
            message = f"expected a value of the axis ({known}), got {shown(value)}"
            yield Problem((*path, name), message)


def _known(spec: SweepSpec, name: str, path: Path) -> Iterator[Problem]:
    if name not in spec.axes:
        known = listing(spec.axes) or "none"
        hint = nearest(name, spec.axes) or f" (there are: {known})"
        yield Problem(path, f"expected the name of an axis, got {shown(name)}{hint}")


class SweepBlocks(BaseModel):
    """The blocks of a sweep file that a scenario has not."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    sweep: SweepSpec = Field(description="What varies, and the seeds.")
    published: Published | None = Field(None, description=_PUBLISHED)


class SweepFile(Scenario):
    """A scenario or a sweep file, as editors check it; nothing is made of it."""

    sweep: SweepSpec | None = Field(
        None, description="Makes the file a sweep: a game for each combination of values and seed."
    )
    published: Published | None = Field(None, description=_PUBLISHED)


@dataclass(frozen=True, eq=False)
class Cell:
    """One game of a sweep.

    Attributes:
        at: Its coordinate on each axis, in the order of the file.
        seed: Its seed.
        scenario: What is played.
        digest: The scenario's hash; cells with equal hashes are one game.
    """

    at: At
    seed: int
    scenario: Scenario
    digest: str

    @property
    def title(self) -> str:
        """The coordinates and the seed as text."""
        return ", ".join(
            f"{name}={value}" for name, value in {**self.at, "seed": self.seed}.items()
        )

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return f"{self.scenario.slug()}-{self.digest[:12]}"


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep file, with every cell validated.

    Attributes:
        name: The scenario's name.
        spec: The block ``sweep:``.
        base: The scenario's plain data as it was written, with overrides, without both blocks.
        published: The block ``published:``, None where there is none.
        cells: In order; at least one.
    """

    name: str
    spec: SweepSpec
    base: Mapping[str, Any]
    published: Published | None
    cells: Sequence[Cell]

    def document(self) -> dict[str, Any]:
        """Return the sweep file as plain values, which `scenarios.loader.load_sweep` reads back."""
        blocks: dict[str, Any] = {"sweep": self.spec.model_dump(mode="json", exclude_none=True)}
        if self.published is not None:
            blocks["published"] = self.published.model_dump(mode="json", exclude_none=True)
        return {**self.base, **blocks}

    def digest(self) -> str:
        """Return a SHA-256 (hex) over the cells' coordinates and hashes.

        What is made of the scores (`payoffs`, `published`) and the description is not in it.
        """
        cells = [[dict(cell.at), cell.seed, cell.digest] for cell in self.cells]
        text = json.dumps({"name": self.name, "cells": cells}, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def slug(self) -> str:
        """Return the name as a safe file name."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-")[:48] or "sweep"
