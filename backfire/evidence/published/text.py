"""The side-by-side table as words: cells for the report, and a whole page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from backfire.evidence.estimates import Estimate
from backfire.evidence.places import DefendedCell
from backfire.evidence.published.judging import (
    RULES,
    ClaimLine,
    ClaimVerdict,
    FigureLine,
    JudgedComparison,
    PaperBesideOurs,
    p_words,
)
from backfire.evidence.words import reach_words
from scenarios.sweep.published import ALL_ATTACKERS, Operand
from scenarios.text.quoting import printable

MAX_COMPARISONS: Final = 60
# Underscores inside words and brackets that begin no link are safe, and read better as they are.
_SPECIAL: Final = re.compile(r"([\\`*|<>&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=[\[(:]))")
_MARKS: Final = {
    ClaimVerdict.HOLDS: "✔",
    ClaimVerdict.PART: "◐",
    ClaimVerdict.FAILS: "✘",
    ClaimVerdict.UNDECIDED: "?",
    ClaimVerdict.NOT_COMPARABLE: "–",
}


def spot_words(
    spot: DefendedCell | None, group: str = "", varying: Iterable[str] | None = None
) -> str:
    """Return a place in words, such as ``attackers 5, trigger fixed; undefended``.

    Args:
        spot: The place; None where there is none.
        group: Said too where it is neither the defender nor all malicious agents.
        varying: The axes worth naming; None for all.
    """
    if spot is None:
        return "nowhere"
    named = spot.at if varying is None else {k: spot.at[k] for k in varying if k in spot.at}
    words = ", ".join(f"{printable(name, 40)} {_setting(value)}" for name, value in named.items())
    tail = [printable(spot.defender, 64)]
    if group not in ("", ALL_ATTACKERS):
        tail.append(printable(group, 64))
    return "; ".join([words, ", ".join(tail)] if words else [", ".join(tail)])


def side_words(side: Operand, spot: DefendedCell | None) -> str:
    """Return one side of a comparison in words."""
    if spot is None or side.score is None:
        return f"{100 * (side.value or 0.0):g} %"
    return f"{printable(side.score, 64)} at {spot_words(spot, side.group or '')}"


def estimate_words(found: Estimate, *, signed: bool = False) -> str:
    """Return a mean with its interval and n, in per cent; `signed` for differences, in points."""
    if found.value is None:
        return "not scored"
    form = "+.1f" if signed else ".1f"
    unit = " points" if signed else " %"
    seeds = f"n = {found.n}"
    reach = reach_words(found, signed=signed)
    if found.low is None or found.high is None:
        return f"{100 * found.value:{form}}{unit} ({seeds}, {reach})"
    return f"{100 * found.value:{form}}{unit} [{reach}], {seeds}"


def paper_words(line: FigureLine) -> str:
    """Return what the paper prints, in per cent."""
    spread = line.figure.spread
    behind = "" if spread is None else f" ± {100 * spread:g}"
    return f"{100 * line.figure.value:g}{behind} %"


def ours_words(line: FigureLine) -> str:
    """Return ours, with the spread across agents where there is one."""
    agents = "" if line.std is None else f"; ± {100 * line.std:.1f} across agents"
    return estimate_words(line.ours) + agents


def claim_words(line: ClaimLine) -> str:
    """Return what our data say to a claim: its values where it is one comparison, then why."""
    if len(line.comparisons) != 1:
        return line.why
    return f"{comparison_words(line, line.comparisons[0])}: {line.why}"


def comparison_words(line: ClaimLine, one: JudgedComparison) -> str:
    """Return both sides of a comparison in words, with their means."""
    parts = [
        f"{side_words(side, spot)}" + ("" if spot is None else _mean_words(found))
        for side, spot, found in (
            (line.claim.first, one.first, one.one),
            (line.claim.than, one.second, one.two),
        )
    ]
    return " against ".join(parts)


def _mean_words(found: Estimate) -> str:
    if found.value is None:
        return ""
    return f" = {100 * found.value:.1f} %" + (" in two heaps" if found.heaps else "")


def markdown(table: PaperBesideOurs, *, replay: str = "", title: str = "") -> str:
    """Return the table as Markdown; the same table gives the same text.

    Args:
        table: The table.
        replay: The command that plays it again; "" for none.
        title: Heading of the page; "" for none.
    """
    blocks = [f"# {_cell(title)}"] if title else []
    blocks.append(f"**{_cell(table.finding)}**")
    seeds = f"{table.seeds} seed" + ("" if table.seeds == 1 else "s")
    blocks.append(
        f"Played with {seeds}; shares are means over seeds with 95 % intervals over seeds. "
        "[How to read a verdict](README.md)."
    )
    if replay:
        blocks.append(f"```\n{printable(replay, 500)}\n```")
    blocks += _claims(table.claims)
    blocks += _figures(table)
    return "\n\n".join(blocks) + "\n"


def rules_markdown() -> str:
    """Return the rules by which verdicts are given, as a list."""
    return "\n".join(f"- {rule}" for rule in RULES) + "\n"


def _claims(claims: Sequence[ClaimLine]) -> Iterator[str]:
    if not claims:
        return
    yield "## What the paper concludes"
    rows = [
        (f"{number}. {line.claim.text}", claim_words(line), line.verdict)
        for number, line in enumerate(claims, start=1)
    ]
    yield table_of_cells(("paper", "ours", "verdict"), rows)
    several = [(k, line) for k, line in enumerate(claims, 1) if len(line.comparisons) > 1]
    single = [
        (str(k), comparison_words(line, one), _difference(one), one.verdict)
        for k, line in several
        for one in line.comparisons
    ]
    if not single:
        return
    yield "### Comparison by comparison"
    head = ("claim", "compared", "difference", "verdict")
    shown = table_of_cells(head, single[:MAX_COMPARISONS])
    more = len(single) - MAX_COMPARISONS
    yield shown + (f"\n\n{more} more stand in the report." if more > 0 else "")


def _figures(table: PaperBesideOurs) -> Iterator[str]:
    if not table.figures:
        return
    yield "## What the paper prints"
    if not table.published.is_comparable:
        yield f"Not comparable: {_cell(table.published.why_not)}."
    rows = [
        (
            f"{printable(line.figure.score or '', 64)}, {spot_words(line.spot, line.group)}"
            + (f" ({line.figure.note})" if line.figure.note else ""),
            paper_words(line),
            ours_words(line),
            line.verdict,
            why_words(line, table),
        )
        for line in table.figures
    ]
    yield table_of_cells(("place", "paper", "ours", "verdict", "why"), rows)


def why_words(line: FigureLine, table: PaperBesideOurs) -> str:
    """Return why a figure has its verdict, without what is said once for the whole table."""
    if line.verdict is not ClaimVerdict.NOT_COMPARABLE:
        return line.why
    return line.why.removeprefix(f"{table.published.why_not}; ")


def _difference(one: JudgedComparison) -> str:
    p = "" if one.p is None else f", {p_words(one.p)}"
    return f"{estimate_words(one.difference, signed=True)}{p}" + (f"; {one.why}" if one.why else "")


def table_of_cells(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; cells are foreign text, verdicts have their marks."""
    lines = [_row(head), _row(["---"] * len(head))]
    for row in rows:
        cells = [
            f"{_MARKS[cell]} **{cell}**" if isinstance(cell, ClaimVerdict) else _cell(cell)
            for cell in row
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    """Return foreign text that neither ends a cell nor is read as Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", printable(text, 2000))


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else printable(str(value), 40)
