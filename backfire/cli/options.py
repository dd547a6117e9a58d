"""Options that several commands have, and the console that their output goes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

RUNS: Final = Path("runs")

Json = Annotated[bool, typer.Option("--json", help="Print JSON to the standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Plain = Annotated[bool, typer.Option("--plain", help="No colours and no moving bars.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, max=4096, help="Cells played at a time.")
]
SweepOut = Annotated[Path, typer.Option("--out", help="Folder that the sweep is kept in.")]


def open_console(plain: bool, *, error: bool = False) -> Console:
    """Return the console of the standard output, or of the standard error."""
    if plain:
        return Console(stderr=error, no_color=True, force_terminal=False, highlight=False)
    return Console(stderr=error, highlight=False)
