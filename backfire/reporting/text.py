"""Numbers and foreign names as the report words them."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Final

from learning.statistics import Interval
from scenarios.text.quoting import printable
from server.referee.results import Difference, Score, Summary

THIN = "\u202f"  # narrow no-break space, between a number and its unit
NONE = "–"
MAX_NAME = 80
# Room for a name beside an axis, in em: no name runs into what is drawn.
NAME: Final = 7.4

# Widths in em of letters that are much narrower or wider than others.
_WIDTHS: Final = (("ijlI|'.,:;!() ", 0.32), ("frt-[]/", 0.41), ("w", 0.82), ("mMW@%", 1.0))

# Words written from right to left, which must not drag the numbers beside them along.
_LETTER = r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]"
_MINUS = re.compile(r"(?<=[ (\[])-(?=\d)")
_RIGHT_TO_LEFT = re.compile(rf"{_LETTER}(?:[^A-Za-z0-9]*{_LETTER})*")


def plain(text: object, limit: int = MAX_NAME) -> str:
    """Return foreign text with all that does not print escaped, at most `limit` characters."""
    return printable(str(text), limit)


def sentence(text: object) -> str:
    """Return a foreign sentence for the page.

    Numbers keep their units on the same line and have a minus that is no hyphen; words from right
    to left are isolated.
    """
    shown = _MINUS.sub("−", plain(text, 4000)).replace(" %", f"{THIN}%")
    return _RIGHT_TO_LEFT.sub(lambda found: f"\u2068{found[0]}\u2069", shown)


def clauses(text: object) -> list[str]:
    """Return the clauses of a foreign sentence, which semicolons part."""
    parts = sentence(text).split("; ")
    return [f"{part};" for part in parts[:-1]] + parts[-1:]


def aside(clause: str) -> tuple[str, str]:
    """Return a clause, and what stands in brackets at its end, "" for nothing.

    The brackets and the mark behind them go with what they hold.
    """
    found = re.fullmatch(r"(.*\S) (\([^()]*\)[.;]?)", clause, re.DOTALL)
    return (clause, "") if found is None else (found[1], found[2])


def layout(cards: int) -> str:
    """Return the class of a grid of cards, so that a lone card never leaves two holes.

    Three beside each other; two where that would leave one card alone in its row; a lone card
    takes the whole width.
    """
    if cards == 1:
        return " one"
    return " pairs" if cards == 2 or cards % 3 == 1 else ""


def width(text: str) -> float:
    """Return the width of a text in em, in the widest of the usual fonts."""
    return sum(_width(c) for c in text)


def _width(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    for letters, em in _WIDTHS:
        if character in letters:
            return em
    return 0.72 if character.isupper() else 0.63


def fitted(text: str, limit: float) -> str:
    """Return the text, cut with an ellipsis where it is wider than `limit` em."""
    if width(text) <= limit:
        return text
    while text and width(text) > limit - 1:
        text = text[:-1]
    return text + "…"


def both_ends(text: str, limit: float) -> str:
    """Return the text, its middle cut with an ellipsis where it is wider than `limit` em.

    Names that begin alike, such as those of one family of defences, mostly end otherwise.
    """
    kept = len(text)
    shown = text
    while kept > 2 and width(shown) > limit:
        kept -= 1
        shown = f"{text[: kept // 2]}…{text[len(text) - (kept + 1) // 2 :]}"
    return shown


def number(value: float) -> str:
    """Return a number in at most four significant digits, whole numbers in full."""
    if not math.isfinite(value):
        return "not finite"
    if value == round(value) and abs(value) < 1e9:
        return f"{value:,.0f}".replace(",", THIN)
    return f"{value:.4g}"


def percent(value: float | None) -> str:
    """Return a share in per cent with one decimal."""
    if value is None:
        return NONE
    return f"{100 * value:.1f}{THIN}%" if math.isfinite(value) else "not finite"


def points(value: float | None) -> str:
    """Return a difference of shares in signed percentage points."""
    if value is None:
        return NONE
    return f"{100 * value:+.1f}".replace("-", "−") if math.isfinite(value) else "not finite"


def interval(score: Score) -> str:
    """Return the interval of a share in per cent."""
    return f"{100 * score.low:.1f} to {100 * score.high:.1f}{THIN}%"


def gap_interval(gap: Difference | Interval) -> str:
    """Return the interval of a difference in points."""
    return f"{points(gap.low)} to {points(gap.high)}"


def spread(summary: Summary) -> str:
    """Return mean and standard deviation over agents."""
    if summary.std is None:
        return percent(summary.mean)
    return f"{percent(summary.mean)[:-2]}\u00a0±\u00a0{percent(summary.std)}"


def counted(score: Score) -> str:
    """Return hits of count."""
    return f"{number(round(score.hits, 1))} of {number(score.count)}"


def in_full(name: str, score: Score) -> str:
    """Return a score in words: name, value, counts, interval."""
    if score.value is None:
        return f"{name}: no inputs"
    return f"{name}: {percent(score.value)} ({counted(score)}; 95 % interval {interval(score)})"


def many(count: int, what: str) -> str:
    """Return ``1 row`` or ``2 rows``, kept on one line."""
    return f"{number(count)}\u00a0{what}" + ("" if count == 1 else "s")
