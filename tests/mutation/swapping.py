"""Puts a mutant into modules that are imported already: the changed functions get new code.

So a fork of a process that has collected all tests judges a mutant without importing anything
again. What runs at import (constants, class bodies, defaults, decorators) cannot be changed so.
"""

import functools
import gc
import types
from collections.abc import Iterator
from pathlib import Path

FUNCTION = 0x2  # CO_NEWLOCALS: the code of a function, not of a class body or module


def changed(
    before: str, after: str, path: Path
) -> list[tuple[types.CodeType, types.CodeType]] | None:
    """Return the codes of functions that differ, before and after; None if others differ too."""
    pairs = list(_differ(compile(before, path, "exec"), compile(after, path, "exec")))
    if not pairs or any(not old.co_flags & FUNCTION for old, _ in pairs):
        return None
    return pairs


def _differ(
    old: types.CodeType, new: types.CodeType
) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    """Yield pairs that differ by themselves, and functions around them."""
    inner, others = _codes(old), _codes(new)
    below = [pair for a, b in zip(inner, others, strict=False) for pair in _differ(a, b)]
    yield from below
    own = len(inner) != len(others) or _shape(old) != _shape(new)
    if own or (below and old.co_flags & FUNCTION):
        yield old, new


def _codes(code: types.CodeType) -> list[types.CodeType]:
    return [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _shape(code: types.CodeType) -> tuple[object, ...]:
    consts = [repr(c) for c in code.co_consts if not isinstance(c, types.CodeType)]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, consts


def functions(tree: Path) -> tuple[list[types.FunctionType], list[object]]:
    """Return all functions from files of a tree, and all caches around some."""
    everything = gc.get_objects()
    ours = [
        found
        for found in everything
        if type(found) is types.FunctionType and found.__code__.co_filename.startswith(str(tree))
    ]
    caches = [
        found
        for found in everything
        if type(found) is functools._lru_cache_wrapper  # type: ignore[attr-defined]
        and str(getattr(found, "__module__", "")).split(".")[0] in {p.name for p in tree.iterdir()}
    ]
    return ours, caches


def swap(
    pairs: list[tuple[types.CodeType, types.CodeType]],
    among: tuple[list[types.FunctionType], list[object]],
) -> int:
    """Give the functions their new code; return how many there were."""
    count = 0
    for old, new in pairs:
        for function in among[0]:
            if function.__code__ == old and function.__code__.co_filename == old.co_filename:
                function.__code__ = new
                count += 1
    for kept in among[1]:
        kept.cache_clear()  # type: ignore[attr-defined]
    return count
