"""Where a method that is not of this house comes from, and which code it is."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from learning.families.offers import Offer, offers
from learning.families.table import FAMILIES

Record = dict[str, Any]


def origin_of(method: type) -> Record | None:
    """Return where a method comes from, as JSON values; None for one of this house.

    Args:
        method: Its class.

    Returns:
        ``method`` (class by module and name); ``distribution``, ``version`` and ``entry_point``
        (group and name) of the installed package that offers it, null where none does; and
        ``code``, the SHA-256 (hex) of its source: of all ``.py`` files of the outermost package
        that it is in, or of its module where that is in none. Null where there is no source.
    """
    top = method.__module__.partition(".")[0]
    if top in {package.partition(".")[0] for package in FAMILIES.values()}:
        return None
    offer = _offer_of(method)
    name, version = offer.distribution if offer is not None else ("", "")
    point = None if offer is None else f"{offer.point.group}:{offer.point.name}"
    return {
        "method": dotted(method),
        "distribution": name or None,
        "version": version or None,
        "entry_point": point,
        "code": _code_of(method),
    }


def _offer_of(method: type) -> Offer | None:
    """Return the entry point that names a class, which is imported already."""
    for offer in offers():
        module = sys.modules.get(offer.point.module)
        if getattr(module, offer.point.attr, None) is method:
            return offer
    return None


# The code that runs is the one that was there when it was imported, not what is written later.
@lru_cache(maxsize=256)
def _code_of(method: type) -> str | None:
    return code_of(method)


def dotted(item: object) -> str:
    """Return module and name of a class or function."""
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', type(item).__name__)}"


def code_of(item: object) -> str | None:
    """Return the SHA-256 (hex) of the code of a class or function, as `origin_of` takes it.

    None where it cannot be had. What it calls in other modules is not part of it.
    """
    hashed, known = hashlib.sha256(), False
    for name, text in _sources(item):
        known = True
        hashed.update(len(name).to_bytes(8) + name + len(text).to_bytes(8) + text)
    return hashed.hexdigest() if known else None


def _sources(method: object) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and text of the files that a method's code is in."""
    top = sys.modules.get(method.__module__.partition(".")[0])
    roots = [Path(root) for root in getattr(top, "__path__", ())]
    for root in roots:
        for file in sorted(root.rglob("*.py")):
            yield file.relative_to(root).as_posix().encode(), file.read_bytes()
    if roots:
        return
    alone = getattr(top, "__file__", None)
    if alone is not None and Path(alone).is_file():
        yield Path(alone).name.encode(), Path(alone).read_bytes()
        return
    try:
        yield dotted(method).encode(), inspect.getsource(method).encode()  # type: ignore[arg-type]
    except (OSError, TypeError):  # typed into a notebook or a console
        yield from _compiled(method)


def _compiled(method: object) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and byte code of a class's functions."""
    for name, item in sorted({"": method, **vars(method)}.items()):
        code = getattr(getattr(item, "__func__", item), "__code__", None)
        if isinstance(code, CodeType):
            yield name.encode(), _byte_code(code)


def _byte_code(code: CodeType) -> bytes:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    # The order of a set's items is another in every process.
    plain = [
        sorted(map(repr, one)) if isinstance(one, frozenset) else one
        for one in code.co_consts
        if not isinstance(one, CodeType)
    ]
    return b"".join((code.co_code, repr((plain, code.co_names)).encode(), *map(_byte_code, inner)))
