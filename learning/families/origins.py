"""Where a method that is not of this house comes from, and which code it is."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
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
        "method": f"{method.__module__}.{method.__qualname__}",
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
    hashed = hashlib.sha256()
    known = False
    for name, text in _sources(method):
        known = True
        hashed.update(len(name).to_bytes(8) + name + len(text).to_bytes(8) + text)
    return hashed.hexdigest() if known else None


def _sources(method: type) -> Iterator[tuple[bytes, bytes]]:
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
        yield method.__qualname__.encode(), inspect.getsource(method).encode()
    except (OSError, TypeError):  # typed into a console that keeps nothing
        return
