"""Showing foreign text on one line: escaped, shortened, harmless on a terminal."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable


def printable(text: str, limit: int | None = None) -> str:
    r"""Return `text` with all that does not print escaped, at most `limit` characters long.

    Control characters, ANSI sequences, line breaks, lone surrogates and bidirectional overrides
    come out as ``\n``, ``\x1b``, ``\u202e``, so that the result can neither break a line nor
    steer a terminal.
    """
    out = "".join(c if c.isprintable() else _escaped(c) for c in text[: 4 * (limit or len(text))])
    if limit is not None and len(out) > limit:
        out = out[: limit - 3] + "..."
    return out


def shown(value: object, limit: int = 60) -> str:
    """Return a JSON-like value as error messages show it: text in quotes, collections by size."""
    if isinstance(value, str):
        return f"'{printable(value, limit)}'"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing"
    return printable(json.dumps(value, default=str), limit)


def nearest(word: object, known: Iterable[str]) -> str:
    """Return `` (did you mean '...'?)`` for the known word most like `word`, or an empty text."""
    candidates = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(str(word)[:200].casefold(), candidates, n=1, cutoff=0.6)
    return f" (did you mean {shown(candidates[found[0]])}?)" if found else ""


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Return names as ``a, b, c``, at most `limit` of them."""
    names = list(names)
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(printable(name, 60) for name in names[:limit]) + more


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
