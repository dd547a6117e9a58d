"""Which mutants there are, and a fair sample of them.

A *place* is where a mutant can be made. Places are sampled evenly, each with one of its mutants,
so that a place with many replacements counts once. A place's number is a hash of the seed, its
function and its line's text, not of its line number: code that did not change keeps its mutants.

Left out by rule: text (docstrings, f-strings), annotations, the arguments of `dataclass`, of
`Field` (the published schema pins each of them) and of `zip`, and what only type checkers read.
"""

import ast
import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

from mutation.config import Config
from mutation.swaps import DropOption, SwapCall

Position = tuple[int, int]
_TEXT = {"string", "newline", "endmarker", "fstring_string", "fstring_start", "fstring_end"}
_SILENT_CALLS = {"dataclass", "Field", "field", "zip"}


@dataclass(frozen=True)
class Mutant:
    """One fault in one file.

    Attributes:
        file: Relative to the root.
        where: Qualified name of the function or class; "" for the module.
        line: Its line, from 1.
        operator: What makes it.
        occurrence: Of the operator in the file.
        before: The changed lines.
        after: What they become.
    """

    file: str
    where: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str

    def record(self) -> dict[str, object]:
        """Return it as JSON."""
        return asdict(self)


def operators(config: Config) -> dict[str, Operator]:
    """Return the operators by name."""
    found = {name: get_operator(f"core/{name}")() for name in config.operators}
    return found | {
        "SwapCall": SwapCall(config.swaps),
        "DropOption": DropOption(config.options["names"]),
    }


def sample(config: Config, root: Path, count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants of the subjects, drawn by `seed`; each compiles and differs."""
    kinds = operators(config)
    texts = {file: (root / file).read_text() for file in config.files(root)}
    places = sorted(
        (_number(seed, file, place), file, place)
        for file, text in texts.items()
        for place in _places(text, kinds)
    )
    drawn: list[Mutant] = []
    for number, file, place in places:
        if len(drawn) == count:
            break
        mutant = _mutant(file, texts[file], place, number, kinds)
        drawn += [mutant] if mutant else []
    return drawn


def mutated(mutant: Mutant, text: str, config: Config) -> str:
    """Return the text of the mutant's file with the fault in it."""
    changed = mutate_code(text, operators(config)[mutant.operator], mutant.occurrence)
    if changed is None:
        raise ValueError(f"{mutant.file} has changed since the mutant was drawn")
    return str(changed)


def found_again(record: Mapping[str, str], config: Config, root: Path) -> Mutant | None:
    """Return the mutant of an earlier run in the code as it is now; None if it is gone."""
    text = (root / record["file"]).read_text()
    kind, owner = operators(config)[record["operator"]], functions(text)
    starts = [s for node in ast_nodes(get_ast(text)) for s, _ in kind.mutation_positions(node)]
    for occurrence, (line, _) in enumerate(starts):
        if owner.get(line, "") == record["where"]:
            pair = _difference(text, mutate_code(text, kind, occurrence) or text)
            if pair == (record["before"], record["after"]):
                return Mutant(
                    record["file"], record["where"], line, record["operator"], occurrence, *pair
                )
    return None


@dataclass(frozen=True, order=True)
class Place:
    """Where mutants can be made, and which: (operator, occurrence)."""

    at: Position
    where: str
    text: str
    same: int
    mutants: tuple[tuple[str, int], ...]


def _places(text: str, kinds: Mapping[str, Operator]) -> list[Place]:
    silent, lines, owner = _silent(text), text.splitlines(), functions(text)
    nodes = [node for node in ast_nodes(get_ast(text)) if node.type not in _TEXT]
    others = [node for node in nodes if node.type != "name"]
    found: dict[Position, list[tuple[str, int]]] = {}
    for name, kind in kinds.items():
        among = nodes if isinstance(kind, SwapCall) else others
        positions = (start for node in among for start, _ in kind.mutation_positions(node))
        for occurrence, start in enumerate(positions):
            if not any(first <= start < last for first, last in silent):
                found.setdefault(start, []).append((name, occurrence))
    seen: Counter[tuple[str, str]] = Counter()
    places = []
    for start, mutants in sorted(found.items()):
        key = (owner.get(start[0], ""), lines[start[0] - 1].strip())
        places.append(Place(start, *key, seen[key], tuple(mutants)))
        seen[key] += 1
    return places


def _number(seed: int, file: str, place: Place) -> str:
    key = f"{seed}|{file}|{place.where}|{place.text}|{place.same}"
    return hashlib.sha256(key.encode()).hexdigest()


def _mutant(
    file: str, text: str, place: Place, number: str, kinds: Mapping[str, Operator]
) -> Mutant | None:
    turn = int(number, 16) % len(place.mutants)
    for name, occurrence in place.mutants[turn:] + place.mutants[:turn]:
        changed = mutate_code(text, kinds[name], occurrence)
        if changed and _compiles(changed) and ast.dump(ast.parse(changed)) != _dumped(text):
            before, after = _difference(text, changed)
            return Mutant(file, place.where, place.at[0], name, occurrence, before, after)
    return None


def _dumped(text: str) -> str:
    return ast.dump(ast.parse(text))


def _compiles(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    old, new = ([x[2:].strip() for x in lines if x.startswith(mark)] for mark in ("- ", "+ "))
    return "\n".join(filter(None, old)), "\n".join(filter(None, new))


def functions(text: str) -> dict[int, str]:
    """Return the qualified name of the function or class around each line."""
    owner: dict[int, str] = {}

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}" if name else child.name
                assert child.end_lineno is not None
                owner.update(dict.fromkeys(range(child.lineno, child.end_lineno + 1), inner))
                walk(child, inner)
            else:
                walk(child, name)

    walk(ast.parse(text), "")
    return owner


def _silent(text: str) -> list[tuple[Position, Position]]:
    """Return the stretches whose mutants say nothing."""
    tree = ast.parse(text)
    found = [node for top in ast.walk(tree) for node in _silent_of(top)]
    return [_span(node) for node in found]


def _silent_of(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.JoinedStr):
        yield node
    elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield node.annotation
    elif isinstance(node, ast.FunctionDef) and node.returns is not None:
        yield node.returns
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in _SILENT_CALLS:
        yield from node.keywords if getattr(node.func, "id", "") == "zip" else [node]
    elif _type_checking(node) or _dunder(node):
        yield node


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def _dunder(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").startswith("__")


def _span(node: ast.AST) -> tuple[Position, Position]:
    return (
        (node.lineno, node.col_offset),  # type: ignore[attr-defined]
        (node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
    )
