"""The house as its imports draw it: which modules stand in which room, and who imports whom."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Arrows = Mapping[str, frozenset[str]]


def modules(root: Path, floors: Iterable[str]) -> dict[str, Path]:
    """Return every module by its dotted name; a package goes by its own."""
    found = {}
    for floor in floors:
        for path in sorted((root / floor).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(found: Mapping[str, Path]) -> Arrows:
    """Return for each module the modules that its statements import, those for types too."""
    return {name: frozenset(_imported(path, name, found)) for name, path in found.items()}


def _imported(path: Path, name: str, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            asked = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for dotted in asked:
            while dotted and dotted not in known:
                dotted = dotted.rpartition(".")[0]
            if dotted and dotted != name:
                yield dotted


def inside(parent: str, drawn: Arrows) -> Arrows:
    """Return the arrows between the rooms directly inside a package; "" is the whole house."""

    def room(name: str) -> str | None:
        if not parent:
            return name.split(".")[0]
        return name[len(parent) + 1 :].split(".")[0] if name.startswith(f"{parent}.") else None

    between: defaultdict[str, set[str]] = defaultdict(set)
    for name, imported in drawn.items():
        here = room(name)
        if here is not None:
            between[here] |= {there for there in map(room, imported) if there not in (None, here)}
    return {here: frozenset(there) for here, there in between.items()}


def circles(between: Arrows) -> list[list[str]]:
    """Return the rooms that reach themselves, in groups that reach each other."""
    reach = {here: set(there) for here, there in between.items()}
    for middle in reach:
        for there in reach.values():
            if middle in there:
                there |= reach[middle]
    looped = [here for here in sorted(reach) if here in reach[here]]
    groups = {frozenset(b for b in looped if b in reach[a] and a in reach[b]) for a in looped}
    return sorted(sorted(group) for group in groups)


def crowd(package: Path, one_method_files: frozenset[str]) -> list[str]:
    """Return the modules directly in a package, files of one method apart."""
    return sorted(
        path.stem
        for path in package.glob("*.py")
        if path.stem != "__init__" and path.stem not in one_method_files
    )
