"""Writing on a terminal of any encoding: what it cannot show is escaped, and nothing breaks."""

from __future__ import annotations

import io
import sys
from typing import Final

import typer

# As `scenarios.text.quoting.printable` shows what does not print; "?" would lose the path of a
# report.
_ESCAPED: Final = "backslashreplace"


def escape_what_cannot_be_shown() -> None:
    r"""Let both standard streams write ``\xe9`` where their encoding has no such character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def time_left(seconds: float) -> str:
    """Return how long something will still take, such as ``about 3 min left``."""
    whole = round(seconds)
    if whole < 90:
        return f"about {whole} s left"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"about {minutes} min left"
    return f"about {minutes // 60} h {minutes % 60:02d} min left"


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Write a text to the standard output, or to the standard error.

    The stream is named, since `typer.echo` by itself writes UTF-8 on a terminal that has less.
    """
    typer.echo(text, file=sys.stderr if err else sys.stdout, nl=nl)
