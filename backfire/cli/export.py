"""``backfire export``: figures and tables of a run or a sweep for a paper."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from backfire.cli.options import Debug, Json
from backfire.errors import told
from backfire.terminal import say
from scenarios.text.quoting import printable


class FigureFormat(StrEnum):
    """Formats of figures."""

    PDF = "pdf"
    SVG = "svg"
    PNG = "png"


class ExportTableFormat(StrEnum):
    """Formats of tables."""

    LATEX = "latex"
    CSV = "csv"
    MARKDOWN = "markdown"


def export(
    folder: Annotated[
        Path, typer.Argument(help="The folder of a finished run or sweep.", metavar="RUN|SWEEP")
    ],
    figures: Annotated[
        list[FigureFormat],
        typer.Option("--figure", help="Write the figures in this format; repeatable."),
    ] = [],  # noqa: B006 - typer wants a list, and nobody changes it
    tables: Annotated[
        list[ExportTableFormat],
        typer.Option("--table", help="Write the scores as a table in this format; repeatable."),
    ] = [],  # noqa: B006 - as above
    only: Annotated[
        list[str],
        typer.Option("--only", metavar="NAME", help="Write this figure only; repeatable."),
    ] = [],  # noqa: B006 - as above
    scores: Annotated[
        list[str],
        typer.Option(
            "--score",
            metavar="NAME",
            help="Show this score in LaTeX and Markdown tables, such as class_accuracy or "
            "lifespan:50, instead of the main ones; repeatable.",
        ),
    ] = [],  # noqa: B006 - as above
    out: Annotated[Path, typer.Option("--out", help="Folder that the files go to.")] = Path(
        "exports"
    ),
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Write figures and tables that a paper can take as they are.

    Figures are one column wide, with embedded fonts; each has its caption beside it in a text
    file, which also says what bars and bands mean. They need the extra figures:
    pip install 'backfire[figures]'. LaTeX and Markdown tables hold the main scores with intervals
    and counts, or those that --score names; CSV holds all of them.

    Exit code 0: written. 2: the command is wrong. 3: the folder holds nothing finished, or
    Matplotlib is missing.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.exporting.files import export as write

        written = write(
            folder,
            out,
            [figure.value for figure in figures],
            [table.value for table in tables],
            only,
            scores,
        )
        if json_output:
            say(json.dumps({"files": [str(path) for path in written]}, indent=2))
            return
        for path in written:
            say(printable(str(path)))
