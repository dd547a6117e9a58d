"""``--only axis=value``: a part of a sweep, each of its games the same as in the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from scenarios.loader import parse_sweep
from scenarios.sweep.spec import Coordinate, Sweep, SweepSpec
from scenarios.text.errors import LocatedProblem, ScenarioError
from scenarios.text.quoting import listing, nearest, printable, shown

ONLY: Final = "--only"
SEED: Final = "seed"


def said(value: Coordinate) -> str:
    """Return a coordinate as ``--only`` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def narrowed(sweep: Sweep, picks: Sequence[str]) -> Sweep:
    """Return the part of a sweep at some values of its axes, or of some seeds.

    What a paper says of the whole (`published`) is not in it.

    Args:
        sweep: The whole.
        picks: ``axis=value`` or ``seed=number`` each; those of one axis add up. None of them
            leaves the sweep as it is.

    Raises:
        ScenarioError: If there is no such axis, value or seed, or nothing is left.
    """
    if not picks:
        return sweep
    kept = _positions(sweep.spec, picks)
    document = {key: value for key, value in sweep.document().items() if key != "published"}
    document["sweep"] = _block(sweep.spec, document["sweep"], kept)
    return parse_sweep(json.dumps(document), ONLY)


def _positions(spec: SweepSpec, picks: Sequence[str]) -> dict[str, list[int]]:
    """Return the positions that are kept on each axis that is narrowed, and of the seeds."""
    wanted: dict[str, set[int]] = {}
    for pick in picks:
        name, equals, value = pick.partition("=")
        if not equals:
            raise _wrong("", f"expected axis=value, got {shown(pick)}")
        wanted.setdefault(name, set()).update(_found(spec, name, value))
    for group in spec.together:
        asked = [wanted.pop(name) for name in group if name in wanted]
        if asked:
            both = set.intersection(*asked)
            if not both:
                raise _wrong(group[0], f"expected values that go together ({listing(group)})")
            wanted |= dict.fromkeys(group, both)
    return {name: sorted(found) for name, found in wanted.items()}


def _found(spec: SweepSpec, name: str, value: str) -> set[int]:
    known = {axis: [said(one) for one in spec.axes[axis].coordinates] for axis in spec.axes}
    known[SEED] = [str(seed) for seed in spec.all_seeds()]
    if name not in known:
        hint = nearest(name, known) or f" (there are: {listing(known)})"
        raise _wrong(name, f"expected the name of an axis, or seed, got {shown(name)}{hint}")
    found = {k for k, one in enumerate(known[name]) if one == value}
    if not found:
        message = f"expected a value of the axis ({listing(known[name])}), got {shown(value)}"
        raise _wrong(name, message)
    return found


def _block(
    spec: SweepSpec, block: Mapping[str, Any], kept: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Return the block ``sweep:`` at the kept positions; what names other values is left out."""
    new = dict(block)
    if SEED in kept:
        new["seeds"] = [spec.all_seeds()[k] for k in kept[SEED]]
    new["axes"] = {
        name: _axis(axis, kept[name]) if name in kept else axis
        for name, axis in block["axes"].items()
    }
    new["omit"] = list(_omitted(spec, kept))
    return new


def _axis(axis: Mapping[str, Any], positions: Sequence[int]) -> dict[str, Any]:
    if "values" in axis:
        return {**axis, "values": [axis["values"][k] for k in positions]}
    names = list(axis["choices"])
    return {**axis, "choices": {names[k]: axis["choices"][names[k]] for k in positions}}


def _omitted(spec: SweepSpec, kept: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    left = {
        name: {said(spec.axes[name].coordinates[k]) for k in positions}
        for name, positions in kept.items()
        if name != SEED
    }
    for entry in spec.omit:
        if all(said(value) in left.get(name, (said(value),)) for name, value in entry.items()):
            yield dict(entry)


def _wrong(name: str, message: str) -> ScenarioError:
    return ScenarioError([LocatedProblem(ONLY, None, None, printable(name, 80), message)])
