"""Whether what a scenario asks for fits its data, as far as these are known.

Some data sets are known by their fields, some by a look at their files, all of them once they are
loaded. A mistake that is found here is one of the scenario: an agent that could not play for it
would look like one that cheats.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from pydantic import BaseModel

from learning.data.rows import planned_rows
from learning.data.sketch import Sketch
from learning.method import Method
from learning.shares import count_of
from scenarios.schema import Draft
from scenarios.text.problems import LABEL_FIELDS, Path, Problem
from scenarios.text.quoting import shown


def misfits(scenario: Draft, sketch: Sketch) -> Iterator[Problem]:
    """Yield what cannot be played on such data.

    Args:
        scenario: Whose fields are each in range.
        sketch: What is known of its data.
    """
    if sketch.classes is not None:
        yield from _labels(scenario, sketch.classes)
    if sketch.shape is not None:
        yield from _shapes(scenario, sketch.shape)
    if sketch.train is not None and sketch.test is not None:
        yield from _rows(scenario, sketch.train, sketch.test)


def _labels(scenario: Draft, classes: int) -> Iterator[Problem]:
    for position, group in enumerate(scenario.agents):
        for path, label in _label_values(group.behaviour, ("agents", position, "behaviour")):
            if not 0 <= label < classes:
                yield Problem(path, f"expected a label from 0 to {classes - 1}, got {label}")


def _label_values(value: object, path: Path) -> Iterator[tuple[Path, int]]:
    """Yield the labels that a behaviour names, with their paths."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if name in LABEL_FIELDS and isinstance(value, int) and not isinstance(value, bool):
        yield path, value
    for step, inner in _inside(value):
        yield from _label_values(inner, (*path, step))


def _shapes(scenario: Draft, shape: tuple[int, int, int]) -> Iterator[Problem]:
    """Ask every method of the scenario, wherever it stands."""
    for path, method in _methods(scenario, ()):
        reason = _misfit(method, shape)
        if reason is not None:
            yield Problem(path, reason)


def _methods(value: object, path: Path) -> Iterator[tuple[Path, Method]]:
    if isinstance(value, Method):
        yield path, value
    for step, inner in _inside(value):
        yield from _methods(inner, (*path, step))


def _inside(value: object) -> Iterator[tuple[str | int, object]]:
    """Yield what a value of a scenario is made of, with the steps that lead there."""
    if isinstance(value, BaseModel):
        for field, info in type(value).model_fields.items():
            yield info.alias or field, getattr(value, field)
    elif isinstance(value, tuple):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from value.items()


@lru_cache(maxsize=1024)  # the cells of a sweep ask the same thing again and again
def _misfit(method: Method, shape: tuple[int, int, int]) -> str | None:
    return method.misfit(shape)


def _rows(scenario: Draft, train: int, test: int) -> Iterator[Problem]:
    """Count the rows against those that are asked for, the agents and the defences."""
    source = scenario.data
    whole = planned_rows(
        source.model_copy(update={"train_rows": None, "test_rows": None}), train, test
    )
    for split, there in zip(("train_rows", "test_rows"), whole, strict=True):
        asked = getattr(source, split)
        if asked is not None and asked > there:
            yield Problem(
                ("data", split), f"expected at most the {there} that there are, got {asked}"
            )
    rows, _ = planned_rows(source, train, test)
    held = count_of(scenario.defender_share, rows)
    yield from _dealt(scenario, rows, held)
    if scenario.defender_share > 0 and held == 0:
        yield from no_own_rows(
            scenario, f"{scenario.defender_share:g} of {rows} rows, which is none"
        )


def _dealt(scenario: Draft, rows: int, held: int) -> Iterator[Problem]:
    agents = sum(group.count for group in scenario.agents if not _elsewhere(group.behaviour))
    needed = scenario.partition.least(agents)
    if agents and rows - held < needed:
        many = f"{agents} agent" + "s" * (agents > 1)
        yield Problem(
            ("agents",),
            f"expected at least {needed} rows for {many}, got {rows - held} (of {rows} training "
            f"rows the defender holds {held}): take fewer agents, a smaller defender_share or more "
            "training rows",
        )


def _elsewhere(behaviour: object) -> bool:
    """Return whether such agents have rows of their own: private ones say how many."""
    return getattr(behaviour, "kind", "") == "private"


def no_own_rows(scenario: Draft, got: str) -> Iterator[Problem]:
    """Yield a problem for each defence that declares that it needs rows of the defender's."""
    for name, defences in scenario.defenders.items():
        for defence in defences:
            if any(getattr(defence, need, False) for need in ("needs_own_rows", "needs_own")):
                kind = str(getattr(defence, "kind", ""))
                yield Problem(
                    ("defender_share",),
                    f"expected a share above 0 for the {kind} of {shown(name)}, got {got}",
                )
