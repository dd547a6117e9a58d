"""Which tests run first for a mutant: found by what the tests' own text names.

No table: a test is near a module when it imports it, or names it, its classes or its functions;
nearer, when the one test or its case does so; and near at all when it lies in the folder of the
module's package, or names the module's family in its file's name.
"""

import ast
import inspect
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from mutation.mutants import Mutant


@cache
def _text(path: Path) -> str:
    return path.read_text()


@cache
def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


@cache
def _imports(path: Path) -> frozenset[str]:
    nodes = ast.walk(ast.parse(_text(path)))
    return frozenset(node.module or "" for node in nodes if isinstance(node, ast.ImportFrom))


@cache
def _names(file: str, text: str) -> frozenset[str]:
    """Return what a module is known by: its stem, and its top-level classes and functions."""
    tree = ast.parse(text)
    defined = (ast.ClassDef, ast.FunctionDef)
    public = {n.name for n in tree.body if isinstance(n, defined) and not n.name.startswith("_")}
    return frozenset(public | {Path(file).stem})


def nearness(item: pytest.Item, mutant: Mutant, text: str) -> int:
    """Return how near a test is to a mutant; 0: not at all."""
    file, names = Path(mutant.file), _names(mutant.file, text)
    own = {part for part in mutant.where.split(".") if part} | {file.stem}
    said = _text(item.path)
    module = mutant.file.removesuffix(".py").replace("/", ".")
    case = item.nodeid.partition("::")[2]
    here = words(case) | _said_by(item)
    return (
        4 * (module in _imports(item.path))
        + 2 * bool(names & words(said))
        + 4 * bool(own & here)
        + 3 * bool(names & here)
        + 1 * (file.parts[0] in item.path.parts)
        + 1 * (file.parent.name in item.path.stem)
        + 2 * (file.stem in item.path.stem)
    )


@cache
def _source(path: Path, first: int, last: int) -> frozenset[str]:
    return words("\n".join(_text(path).splitlines()[first - 1 : last]))


def _said_by(item: pytest.Item) -> frozenset[str]:
    """Return the words of a test function."""
    if not isinstance(item, pytest.Function):
        return frozenset()
    code = inspect.unwrap(item.function).__code__
    last = max(line for _, _, line in code.co_lines() if line)
    return _source(Path(code.co_filename), code.co_firstlineno, last)


def ordered(
    items: Sequence[pytest.Item], mutant: Mutant, text: str, seconds: dict[str, float]
) -> list[pytest.Item]:
    """Return the tests that are near a mutant, the nearest and quickest files first."""
    near = {item: nearness(item, mutant, text) for item in items}
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if near[item]:
            files.setdefault(item.path, []).append(item)

    def cost(item: pytest.Item) -> float:
        return seconds.get(item.nodeid, 0.3) / near[item] ** 2

    def place(path: Path) -> tuple[int, float]:
        best = max(near[item] for item in files[path])
        return -best, sum(cost(item) for item in files[path])

    return [item for path in sorted(files, key=place) for item in sorted(files[path], key=cost)]
