"""Loads a scenario: every mistake is one line with file, line, column, field and remedy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from scenarios.families import plugin_hint
from scenarios.fields import (
    default_of,
    fields_of,
    homes_of,
    kinds_of,
    kinds_with,
    remedy,
    wanted,
)
from scenarios.scenario import Scenario
from scenarios.schema import AnyData
from scenarios.sight import Look, Sight
from scenarios.sweep import published
from scenarios.sweep.spec import Cell, Sweep, SweepBlocks, SweepSpec
from scenarios.text import overrides as override_rules
from scenarios.text.branches import ErrorPlace, at, replaced, telling
from scenarios.text.errors import MAX_PROBLEMS, LocatedProblem, ScenarioError
from scenarios.text.problems import LABEL_FIELDS
from scenarios.text.problems import Problem as CrossProblem
from scenarios.text.quoting import listing, nearest, printable, shown
from scenarios.text.yaml_reader import Document, Mark, Path, Plain, YamlError, read, read_file

OVERRIDE: Final = "--set"
PYTHON_CALL: Final = "play()"
_SWEEP: Final = "sweep"
_BLOCKS: Final = ("sweep", "published")
_EXPLAINED: Final = 200
_DATA: Final[TypeAdapter[Any]] = TypeAdapter(AnyData)
M = TypeVar("M", bound=BaseModel)

__all__ = [
    "LocatedProblem",
    "Look",
    "ScenarioError",
    "from_document",
    "load",
    "load_any",
    "load_blocks",
    "load_sweep",
    "misplaced",
    "parse",
    "parse_as",
    "parse_sweep",
    "problem_at",
]


def load(path: FilePath | str, overrides: Sequence[str] = (), look: Look = Look.NO) -> Scenario:
    """Load a scenario file.

    Args:
        path: The file.
        overrides: ``path=value`` each, applied in order; see `scenarios.text.overrides.apply`.
        look: Whether to look at the data, too, and for blocks that no game would read.

    Raises:
        ScenarioError: If it cannot be read or is not a valid scenario.
    """
    return _scenario(_opened(_text_of(path), str(path), overrides), Sight(look))


def load_sweep(path: FilePath | str, overrides: Sequence[str] = (), look: Look = Look.NO) -> Sweep:
    """Load a sweep file: a scenario with a block ``sweep:``. Every cell of it is validated.

    Args:
        path: The file.
        overrides: As in `load`; they come before the axes, whose fields they cannot set.
        look: As in `load`, at the data of every cell.

    Raises:
        ScenarioError: If it cannot be read, is not a valid sweep, or a cell is no valid scenario.
    """
    return _sweep(_opened(_text_of(path), str(path), overrides), Sight(look))


def load_blocks(path: FilePath | str) -> SweepBlocks:
    """Load what a sweep file says of its axes and of a paper; no cell is validated.

    Raises:
        ScenarioError: If it cannot be read or is not a valid sweep.
    """
    places = _opened(_text_of(path), str(path), ())
    return _blocks(places)


def load_any(
    path: FilePath | str, overrides: Sequence[str] = (), look: Look = Look.NO
) -> Scenario | Sweep:
    """Load a file that may be a scenario or a sweep.

    Raises:
        ScenarioError: As `load` and `load_sweep` do.
    """
    places = _opened(_text_of(path), str(path), overrides)
    loaded = _sweep if _is_sweep(places.document) else _scenario
    return loaded(places, Sight(look))


def _text_of(path: FilePath | str) -> str:
    try:
        return read_file(FilePath(path))
    except YamlError as error:
        raise _unreadable(str(path), error) from None


def parse(text: str, name: str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario from text.

    Args:
        text: YAML, or JSON.
        name: What error messages call the text.
        overrides: As in `load`.

    Raises:
        ScenarioError: If it is not a valid scenario.
    """
    return _scenario(_opened(text, name, overrides), Sight())


def from_document(document: Document, name: str, changes: Mapping[str, Any]) -> Scenario:
    """Read a scenario from plain data in which methods made in Python may stand.

    Its data are looked at, as for ``backfire run``.

    Args:
        document: Nested plain data and methods; changed in place.
        name: What error messages call it.
        changes: By path as for ``--set``, what is to stand there instead.

    Raises:
        ScenarioError: If it is not a valid scenario.
    """
    places = _Places(name, document, Scenario, setter=PYTHON_CALL)
    for path, value in changes.items():
        try:
            placed = override_rules.place(document, path, Document(value), places.fresh)
        except override_rules.OverrideError as error:
            problem = LocatedProblem(PYTHON_CALL, None, None, error.field, error.message)
            raise ScenarioError([problem]) from None
        places.overridden.append(placed)
    return _scenario(places, Sight(Look.MUST))


def parse_sweep(text: str, name: str, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep from text.

    Args:
        text: YAML, or JSON.
        name: What error messages call the text.
        overrides: As in `load_sweep`.

    Raises:
        ScenarioError: If it is not a valid sweep, or a cell of it is no valid scenario.
    """
    return _sweep(_opened(text, name, overrides), Sight())


def _opened(text: str, name: str, overrides: Sequence[str]) -> _Places:
    try:
        document = read(text)
    except YamlError as error:
        raise _unreadable(name, error) from None
    places = _Places(name, document, Scenario)
    for override in overrides:
        try:
            places.overridden.append(override_rules.apply(document, override, places.fresh))
        except override_rules.OverrideError as error:
            problem = LocatedProblem(OVERRIDE, None, None, error.field, error.message)
            raise ScenarioError([problem]) from None
    return places


def _is_sweep(document: Document) -> bool:
    return isinstance(document.data, dict) and _SWEEP in document.data


def _scenario(places: _Places, sight: Sight) -> Scenario:
    if _is_sweep(places.document):
        message = "expected a scenario, got a sweep: play it with  backfire sweep"
        raise ScenarioError([places.problem((_SWEEP,), message, at_key=True)])
    places.keep_defaults()
    scenario = _validated(Scenario, places.document.data, places)
    _refuse([*sight.unread(scenario), *sight.misfits(scenario)], places)
    return scenario


def _refuse(wrong: Sequence[CrossProblem], places: _Places) -> None:
    if wrong:
        raise ScenarioError(
            [places.problem(one.path, one.message) for one in wrong[:MAX_PROBLEMS]],
            max(0, len(wrong) - MAX_PROBLEMS),
        )


def _blocks(places: _Places) -> SweepBlocks:
    if not _is_sweep(places.document):
        message = "expected a block sweep: with axes or seeds, got a scenario without: "
        raise ScenarioError([places.problem((), message + "play it with  backfire run")])
    if "seed" in places.document.data:
        message = "expected the seeds in sweep.seeds, got a seed beside them"
        raise ScenarioError([places.problem(("seed",), message, at_key=True)])
    return _validated(SweepBlocks, places.document.data, replace(places, root=SweepBlocks))


def _sweep(places: _Places, sight: Sight) -> Sweep:
    blocks, data = _blocks(places), places.document.data
    combinations = blocks.sweep.combinations()
    if not combinations:
        message = "expected combinations that are left to play, got all of them omitted"
        raise ScenarioError([places.problem((_SWEEP, "omit"), message)])
    scenarios = _variants(blocks.sweep, combinations, places, sight)
    _refuse(_published_problems(blocks, combinations, scenarios), places)
    # An axis may well go from the one game to the other: a block is idle that no cell reads.
    idle = [sight.unread(scenario) for scenario in scenarios]
    _refuse([one for one in idle[0] if all(one in others for others in idle)], places)
    base = {key: value for key, value in data.items() if key not in _BLOCKS}
    cells = tuple(
        Cell(blocks.sweep.at(one), seed, played, played.digest())
        for one, scenario in zip(combinations, scenarios, strict=True)
        for seed in blocks.sweep.all_seeds()
        for played in (scenario.model_copy(update={"seed": seed}),)
    )
    return Sweep(scenarios[0].name, blocks.sweep, base, blocks.published, cells)


def _published_problems(
    blocks: SweepBlocks, combinations: Sequence[Mapping[str, int]], scenarios: Sequence[Scenario]
) -> list[CrossProblem]:
    if blocks.published is None:
        return []
    return published.problems(
        blocks.published,
        {name: axis.coordinates for name, axis in blocks.sweep.axes.items()},
        {name: None for one in scenarios for name in one.defenders},
        {group.name: None for one in scenarios for group in one.agents if group.malicious},
        [blocks.sweep.at(one) for one in combinations],
    )


def _variants(
    spec: SweepSpec, combinations: Sequence[Mapping[str, int]], places: _Places, sight: Sight
) -> list[Scenario]:
    """Return the scenario of each combination, or say what is wrong in any of them."""
    scenarios: list[Scenario] = []
    where: dict[LocatedProblem, list[int]] = {}
    for number, positions in enumerate(combinations):
        try:
            cell = _variant(spec, positions, places)
            scenario = _validated(Scenario, cell.document.data, cell)
            _refuse(sight.misfits(scenario), cell)
            scenarios.append(scenario)
        except ScenarioError as error:
            for problem in error.problems:
                where.setdefault(problem, []).append(number)
    if not where:
        return scenarios
    found = []
    for problem, numbers in where.items():
        at = spec.at(combinations[numbers[0]])
        first = ", ".join(f"{name}={value}" for name, value in at.items())
        many = f" (in {len(numbers)} of {len(combinations)} combinations, first {first})"
        told = "" if len(numbers) == len(combinations) else printable(many, 300)
        found.append(replace(problem, message=problem.message + told))
    raise ScenarioError(found[:MAX_PROBLEMS], max(0, len(found) - MAX_PROBLEMS))


def _variant(spec: SweepSpec, positions: Mapping[str, int], places: _Places) -> _Places:
    """Return a combination's document: each value stands where the axis says it."""
    whole = places.document
    document = Document(
        {key: copy.deepcopy(value) for key, value in whole.data.items() if key not in _BLOCKS},
        dict(whole.keys),
        dict(whole.values),
    )
    overridden = list(places.overridden)
    at_hand = replace(places, document=document)
    for name, position in positions.items():
        for target, inside in spec.axes[name].changes(position):
            place = (_SWEEP, "axes", name, *inside)
            try:
                path = override_rules.place(document, target, whole.at(place), at_hand.fresh)
            except override_rules.OverrideError as error:
                message = f"{error.message} (axis {name} sets {target})"
                raise ScenarioError([places.problem(place, message)]) from None
            if any(base[: len(path)] == path for base in places.overridden):
                message = f"expected a field that no axis sets, got one that {name} sets: "
                text = message + f"change sweep.axes.{name} instead"
                raise ScenarioError([LocatedProblem(OVERRIDE, None, None, target, text)])
            if places.is_overridden(place):
                overridden.append(path)
    return replace(places, document=document, overridden=overridden)


def parse_as(root: type[M], text: str, name: str, change: Callable[[Plain], Plain]) -> M:
    """Read another kind of document in the way in which scenarios are read.

    Args:
        root: What it is to become.
        text: YAML, or JSON.
        name: What error messages call the text.
        change: Applied to the document's plain data before it is checked.

    Raises:
        ScenarioError: If it is none.
    """
    try:
        document = read(text)
    except YamlError as error:
        raise _unreadable(name, error) from None
    return _validated(root, change(document.data), _Places(name, document, root))


def misplaced(problem: CrossProblem) -> LocatedProblem:
    """Return a problem that is found where the scenario's file is no longer at hand."""
    message = printable(problem.message, 600)
    return LocatedProblem("scenario", None, None, _dotted(problem.path), message)


def problem_at(text: str, name: str, path: Path, message: str) -> LocatedProblem:
    """Return a problem of a document that can be read, with the place where it stands."""
    return _Places(name, read(text), BaseModel).problem(path, message)


def _unreadable(name: str, error: YamlError) -> ScenarioError:
    message = printable(error.message, 300)
    return ScenarioError(
        [LocatedProblem(name, error.line, error.column, _dotted(error.path), message)]
    )


@dataclass
class _Places:
    """Where each path of a document stands, and what it is to become."""

    name: str
    document: Document
    root: type[BaseModel]
    overridden: list[Path] = field(default_factory=list)
    setter: str = OVERRIDE  # what has set what is overridden

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> LocatedProblem:
        """Return a problem at a path, or at the nearest place above it that was written."""
        message = printable(message, 600)
        if self.is_overridden(path):
            return LocatedProblem(self.setter, None, None, _dotted(path), message)
        mark = self.document.keys.get(path) if at_key else None
        for length in range(len(path), -1, -1):
            mark = mark or self.document.values.get(path[:length])
        mark = mark or Mark(1, 1)
        return LocatedProblem(self.name, mark.line, mark.column, _dotted(path), message)

    def fresh(self, path: Path) -> dict[str, Plain]:
        """Return a mapping that is not there as its default has it, for one field to be set."""
        default = default_of(self.root, self.document.data, path)
        if not isinstance(default, BaseModel) or "kind" not in type(default).model_fields:
            return {}
        given = default.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {"kind": getattr(default, "kind"), **given}  # noqa: B009 - of any such model

    def keep_defaults(self) -> None:
        """Let mappings without a kind be of their default's, and have what it says beside it."""
        for path, block in _mappings(self.document.data, ()):
            if path and "kind" not in block:
                block.update({**self.fresh(path), **block})

    def is_overridden(self, path: Path) -> bool:
        """Return whether what stands at a path came from ``--set``."""
        return any(path[: len(base)] == base for base in self.overridden)

    def got(self, path: Path) -> str:
        """Return the value at a path as it was written, shortened and escaped."""
        value = at(self.document.data, path)
        mark = self.document.values.get(path)
        if mark is not None and mark.source and not isinstance(value, str):
            return printable(mark.source, 60)
        return shown(value)


def _mappings(data: object, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the mappings in plain data, each before those inside it."""
    if isinstance(data, dict):
        yield path, data
        for key, item in data.items():
            yield from _mappings(item, (*path, key))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from _mappings(item, (*path, index))


def _dotted(path: Path) -> str:
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            plain = step.isprintable() and step and not set(step) & set(' ."[]:')
            name = printable(step, 60) if plain else f'"{printable(step, 60)}"'
            out += f".{name}" if out else name
    return out


def _validated(root: type[M], data: Plain, places: _Places) -> M:
    more = 0
    try:
        valid = root.model_validate(data)
    except ValidationError as error:
        found = _problems(error, data, places)
        more = max(0, error.error_count() - _EXPLAINED)
    else:
        found = [
            places.problem(path, f"expected {wanted(root, data, path)}, got {places.got(path)}")
            for path in _converted(data, valid, ())
        ]
        if not found:
            return valid
    unique = list(dict.fromkeys(found))
    unique.sort(key=lambda problem: (problem.line or 0, problem.column or 0))
    raise ScenarioError(unique[:MAX_PROBLEMS], more + max(0, len(unique) - MAX_PROBLEMS))


def _converted(data: Plain, value: object, path: Path) -> Iterator[Path]:
    """Yield the paths where validation turned text into a number, or the like: we want neither."""
    if isinstance(data, dict):
        for key, item in data.items():
            yield from _converted(item, _member(value, key), (*path, key))
    elif isinstance(data, list) and isinstance(value, tuple | list):
        for index, (item, inner) in enumerate(zip(data, value, strict=False)):
            yield from _converted(item, inner, (*path, index))
    elif isinstance(value, bool | int | float | str) and (
        isinstance(data, bool) != isinstance(value, bool)
        or isinstance(data, str) != isinstance(value, str)
    ):
        yield path


def _member(value: object, key: str) -> object:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            if key in (info.alias, name):
                return getattr(value, name)
    return None


def _problems(error: ValidationError, data: Plain, places: _Places) -> list[LocatedProblem]:
    errors = error.errors(include_url=False, include_input=False)[:_EXPLAINED]
    return [
        problem
        for item, where in telling(errors, data)
        for problem in _explain(item, where, data, places)
    ]


def _explain(
    item: ErrorDetails, where: ErrorPlace, data: Plain, places: _Places
) -> Iterator[LocatedProblem]:
    """Turn one of pydantic's errors into problems; branches of a union give equal ones."""
    path, rest = where.path, where.rest
    context = item.get("ctx", {})
    match item["type"]:
        case "cross_check":
            for found in context["problems"]:
                yield places.problem(found.path, found.message)
        case "extra_forbidden":
            hint = _where_it_is(path, data, places.root)
            message = (
                f"expected a field of {_owner(path, places.root)}, got {shown(path[-1])}{hint}"
            )
            yield places.problem(path, message, at_key=True)
        case "missing":
            inside = (*path, *rest[-1:])
            text = f"expected {wanted(places.root, data, inside)}, got nothing"
            text += remedy(places.root, data, inside)
            yield places.problem(inside, text)
        case "union_tag_invalid" | "union_tag_not_found" | "model_attributes_type":
            bare = item["type"] == "union_tag_invalid"
            yield _bad_kind(path, data, bare, places)
        case "value_error" | "assertion_error":
            text = str(context.get("error", item["msg"]))
            key = rest == ("[key]",)
            text = text if text.startswith("expected") else f"expected another value: {text}"
            if ", got" not in text:
                text += f", got {shown(path[-1]) if key else places.got(path)}"
            yield places.problem(path, text, at_key=key)
        case "finite_number":
            yield places.problem(path, f"expected a finite number, got {places.got(path)}")
        case _ if rest == ("[key]",):
            name = shown(path[-1])
            yield places.problem(
                path, f"expected a name of 1 to 64 characters, got {name}", at_key=True
            )
        case _:
            expected = _label(item["type"], path, data) or _written_out(path, rest, data, places)
            yield places.problem(path, f"expected {expected}, got {places.got(path)}")


def _label(error: str, path: Path, data: Plain) -> str:
    """Return which labels there are, where a number that is to be one is out of its range."""
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if name not in LABEL_FIELDS or error not in ("greater_than_equal", "less_than_equal"):
        return ""
    try:
        source = _DATA.validate_python(data.get("data") if isinstance(data, dict) else None)
    except ValidationError:
        return ""
    classes = getattr(source, "known_classes", None)
    return "" if classes is None else f"a label from 0 to {classes - 1}"


def _written_out(path: Path, rest: Path, data: Plain, places: _Places) -> str:
    """Return what is wanted at a path; of a shorthand, what of the field that it stands for."""
    if len(rest) > 1 and rest[0] in kinds_of(places.root, data, path):
        data, path = replaced(data, path, {"kind": rest[0]}), (*path, *rest[1:])
    return wanted(places.root, data, path)


def _where_it_is(path: Path, data: Plain, root: type[BaseModel]) -> str:
    """Return where a field is to be found that stands where there is none of its name."""
    above, name = path[:-1], str(path[-1])
    names = fields_of(root, data, above)
    if inside := homes_of(root, data, above, name):
        return f" (did you mean {_dotted(inside[0])}?)"
    if hint := nearest(name, names):
        return hint
    if kinds := kinds_with(root, data, above, name):
        return f" (a field of kind: {' or '.join(kinds[:3])})"
    if elsewhere := homes_of(root, data, (), name):
        return f" (did you mean {_dotted(elsewhere[0])}?)"
    return f" (known: {listing(names, 20)})"


def _owner(path: Path, root: type[BaseModel]) -> str:
    return _dotted(path[:-1]) or ("a scenario" if root is Scenario else "this file")


def _bad_kind(path: Path, data: Plain, bare: bool, places: _Places) -> LocatedProblem:
    """Return the problem of a mapping whose `kind` is missing or unknown.

    Args:
        path: Of the mapping.
        data: The whole document.
        bare: Whether a kind may stand there by itself.
        places: Where things stand.
    """
    known = kinds_of(places.root, data, path)
    value = at(data, path)
    if isinstance(value, dict) and "kind" not in value:
        return places.problem(path, f"expected a kind (one of {listing(known, 40)}), got none")
    if isinstance(value, dict):
        path, value, bare = (*path, "kind"), value["kind"], True
    hint = f" (write {{kind: {value}}})" if value in known else plugin_hint(value)
    hint = hint or nearest(value, known)
    expected = f"one of {listing(known, 40)}" if bare else wanted(places.root, data, path)
    return places.problem(path, f"expected {expected}, got {places.got(path)}{hint}")
