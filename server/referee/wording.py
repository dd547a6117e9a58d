"""Numbers as the verdict words them."""

from __future__ import annotations


def points_of(value: float) -> str:
    """Return a share in per cent, or a difference in points, in at most one decimal."""
    text = f"{100 * value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def percent(value: float | None) -> str:
    """Return a share in per cent, or ``unknown``."""
    return "unknown" if value is None else f"{points_of(value)} %"


def many(count: int, what: str) -> str:
    """Return ``1 row`` or ``2 rows``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
