"""The `published:` block of a sweep: what a paper says, in a form that data can decide.

A *figure* is a number that the paper prints; a *claim* is what it concludes, as a comparison of two
places of the sweep's table. Shares and differences of shares are written as in the table: 0..1 and
-1..1, not in per cent.

A place may leave axes and the defender out. What both sides of a claim leave out is the same on
both sides, one comparison for each of its values; what one side alone leaves out takes each value
but the one that the other side names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field, StringConstraints, model_validator

from learning.frozen import Frozen
from scenarios.text.problems import Path, Problem
from scenarios.text.quoting import listing, nearest, shown

AxisValue = bool | int | float | str
Axes = Mapping[str, Sequence[AxisValue]]

ALL_ATTACKERS: Final = "malicious"

_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Share = Annotated[float, Field(ge=-1, le=1)]
_Limit = Annotated[float, Field(ge=0, le=1)]


class PublishedCell(Frozen):
    """A score of a group against a defender, at values of the axes."""

    at: dict[_Name, AxisValue] = Field(
        {}, max_length=32, description="Values of axes, or names of choices; see the module."
    )
    defender: _Name | None = Field(None, description="A defender; null: each one.")
    group: str | None = Field(
        None,
        max_length=200,
        description='A group of agents; "malicious": all malicious agents; "": the defender '
        "itself; null: all malicious agents where the score has them, else the defender itself.",
    )
    score: _Name | None = Field(
        None, description="A score of the sweep's table, such as asr or clean_accuracy."
    )


class PublishedFigure(PublishedCell):
    """A number that the paper prints."""

    score: _Name = Field(description="A score of the sweep's table.")
    value: _Share = Field(description="The paper's value, as a share.")
    spread: _Limit | None = Field(
        None, description="What the paper prints behind ±, as a share; null: nothing."
    )
    note: str = Field("", max_length=400, description="What should be known about it.")


class Operand(PublishedCell):
    """One side of a claim: a place of the table, or a constant."""

    value: _Share | None = Field(None, description="A constant in place of a score.")

    @model_validator(mode="after")
    def _check_one(self) -> Operand:
        if (self.score is None) == (self.value is None):
            raise ValueError("expected either a score or a value")
        if self.value is not None and (self.at or self.defender or self.group is not None):
            raise ValueError("expected nothing but value beside a value")
        return self


class Near(Operand):
    """The first side of a claim that two scores are alike."""

    tolerance: float = Field(
        gt=0, le=1, description="How far apart they may be and still be called alike."
    )


class Claim(Frozen):
    """What the paper concludes: `less` lies below `than`, or `about` lies near `than`."""

    text: _Text = Field(description="The conclusion in words.")
    less: Operand | None = Field(None, description="What is less than `than`.")
    about: Near | None = Field(None, description="What is about as large as `than`.")
    than: Operand = Field(description="What it is compared with.")
    margin: float = Field(
        0,
        ge=0,
        le=1,
        description="How much less it is at least.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_one(self) -> Claim:
        if (self.less is None) == (self.about is None):
            raise ValueError("expected either less or about")
        if self.about is not None and self.margin:
            raise ValueError("expected a margin only with less; about has a tolerance")
        if self.first.score is None and self.than.score is None:
            raise ValueError("expected a score on at least one side")
        return self

    @property
    def first(self) -> Operand:
        """The side that is not `than`."""
        side = self.less or self.about
        assert side is not None  # noqa: S101 - the validator says so
        return side


class Published(Frozen):
    """What a paper says about the games of a sweep."""

    source: _Text = Field(description='Where it is printed, such as "S1, Table 3".')
    comparable: str = Field(
        pattern=r"^(yes|no: \S.*)$",
        max_length=1000,
        description='"yes" where the sweep plays what the paper played, else "no: " and why not; '
        "figures are judged only where it is.",
    )
    figures: tuple[PublishedFigure, ...] = Field(
        (), max_length=2000, description="Printed numbers."
    )
    claims: tuple[Claim, ...] = Field((), max_length=200, description="Conclusions.")

    @property
    def is_comparable(self) -> bool:
        """Whether figures may be set beside ours and judged."""
        return self.comparable == "yes"

    @property
    def why_not(self) -> str:
        """Why figures are not judged; "" where they are."""
        return self.comparable.removeprefix("yes").removeprefix("no: ")


def same_value(one: AxisValue, other: AxisValue) -> bool:
    """Return whether two axis values are the same; ``true`` is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def fits(at: Mapping[str, AxisValue], cell: Mapping[str, AxisValue]) -> bool:
    """Return whether a cell lies at a place."""
    return all(axis in cell and same_value(value, cell[axis]) for axis, value in at.items())


def problems(
    published: Published,
    axes: Axes,
    defenders: Collection[str],
    groups: Collection[str],
    cells: Sequence[Mapping[str, AxisValue]] | None = None,
) -> list[Problem]:
    """Return what in a `published:` block does not fit its sweep.

    Args:
        published: The block.
        axes: Values, or names of choices, by axis.
        defenders: Names of the scenario's defenders.
        groups: Names of its malicious groups.
        cells: The axes' values of each cell that is played, where that is not every combination.
    """
    found: list[Problem] = []
    for path, place in _places(published):
        found += _axes_of(place, path, axes)
        found += _known(place.defender, (*path, "defender"), defenders, "a defender")
        if place.group not in (None, "", ALL_ATTACKERS):
            found += _known(place.group, (*path, "group"), groups, "a malicious group")
        if not found and cells is not None and not any(fits(place.at, cell) for cell in cells):
            found.append(
                Problem((*path, "at"), "expected values of a cell that is played, got one left out")
            )
    return found


def _places(published: Published) -> Iterator[tuple[Path, PublishedCell]]:
    for index, figure in enumerate(published.figures):
        yield ("published", "figures", index), figure
    for index, claim in enumerate(published.claims):
        path = ("published", "claims", index)
        yield (*path, "less" if claim.less is not None else "about"), claim.first
        yield (*path, "than"), claim.than


def _axes_of(place: PublishedCell, path: Path, axes: Axes) -> Iterator[Problem]:
    for axis, value in place.at.items():
        here = (*path, "at", axis)
        if axis not in axes:
            known = f"an axis of the sweep (one of {listing(axes)})" if axes else "no axis"
            yield Problem(here, f"expected {known}, got {shown(axis)}{nearest(axis, axes)}")
        elif not any(same_value(value, known) for known in axes[axis]):
            values = listing(map(str, axes[axis]), 30)
            yield Problem(
                here, f"expected a value of the axis (one of {values}), got {shown(value)}"
            )


def _known(name: str | None, path: Path, names: Collection[str], what: str) -> Iterator[Problem]:
    if name is not None and name not in names:
        message = f"expected {what} (one of {listing(names)}), got {shown(name)}"
        yield Problem(path, message + nearest(name, names))
