"""Scores that a user names, and what their values are: shares in per cent, or amounts in a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backfire.errors import UsageError
from scenarios.text.quoting import listing, nearest, printable
from server.referee.registry import class_of


def scores_named(asked: Sequence[str], there: Iterable[str]) -> list[str]:
    """Return the scores that ``--score`` names, in the order asked for.

    Args:
        asked: Names of the long table, or their first parts: ``lifespan`` is ``lifespan:50``, and
            whatever other lifespan there is.
        there: The names that there are.

    Raises:
        UsageError: If one is not there; one line.
    """
    names = list(dict.fromkeys(there))
    found: dict[str, None] = {}
    for one in asked:
        own = [name for name in names if name == one or name.startswith(f"{one}:")]
        if not own:
            raise UsageError(
                f"expected a score after --score, got '{printable(one, 60)}'"
                f"{nearest(one, names)}; there are: {listing(names, 60) or 'none'}"
            )
        found.update(dict.fromkeys(own))
    return list(found)


def is_share(score: str) -> bool:
    """Return whether a score's values are shares or differences of shares, shown in per cent.

    Amounts are shown as they are, and so is a score whose class is not installed here: its
    values may be anything.
    """
    known = class_of(score)
    return known is not None and not known.unit


def unit_of(score: str) -> str:
    """Return the unit of a score's amounts; "" for shares, and where nothing is known of it."""
    known = class_of(score)
    return "" if known is None else known.unit


def value_words(score: str, value: float, *, signed: bool = False) -> str:
    """Return a value as tables show it: ``40.7`` of a share in per cent, ``12.5`` of an amount.

    Args:
        score: Name of the score.
        value: Its value, a share as a fraction of 1.
        signed: Of a difference, which has its sign.
    """
    if is_share(score):
        return f"{100 * value:{'+' if signed else ''}.1f}"
    return f"{value:{'+' if signed else ''}.4g}"
