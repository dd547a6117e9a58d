"""A table as LaTeX; it needs the package booktabs and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from backfire.exporting.score_tables import ScoreCell, ScoreTable

_ESCAPES: Final[Mapping[str, str]] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_SPECIAL: Final = re.compile("[" + re.escape("".join(_ESCAPES)) + "]")


def latex(table: ScoreTable) -> str:
    """Return the table in a float over both columns, with its caption."""
    columns = "l" * len(table.labels) + "r" * len(table.heads)
    heads = [escaped(head) for head in (*table.labels, *table.heads)]
    rows = [
        " & ".join([*map(escaped, names), *map(_cell, cells)]) + r" \\[2pt]"
        for names, cells in table.rows
    ]
    return "\n".join(
        [
            "% Needs \\usepackage{booktabs}.",
            r"\begin{table*}",
            r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{escaped(table.title)}. {escaped(table.caption)}}}",
            rf"  \begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"    \toprule",
            "    " + " & ".join(heads) + r" \\",
            r"    \midrule",
            *(f"    {row}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Return foreign text that LaTeX sets as it is."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], text)


def _cell(cell: ScoreCell) -> str:
    if not cell.value:
        return "--"
    small = [part for part in (_reach(cell.reach), escaped(cell.count)) if part]
    lines = [_minus(cell.value), *(rf"{{\scriptsize {part}}}" for part in small)]
    stacked = r" \\ ".join(lines)
    return rf"\shortstack[r]{{{stacked}}}" if small else lines[0]


def _reach(text: str) -> str:
    return (
        f"[{_minus(text.replace(' to ', ', '))}]"
        if " to " in text and text[:1] in "+-0123456789"
        else escaped(text)
    )


def _minus(text: str) -> str:
    return text.replace("-", "$-$").replace("+", "$+$")
