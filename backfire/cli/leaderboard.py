"""``backfire leaderboard``: a static table of attack against defence from a folder of cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from backfire.cli.options import Debug, Json
from backfire.errors import told
from backfire.terminal import say
from scenarios.text.quoting import printable


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="Folder with finished sweeps, or cards.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files; by default FOLDER.")
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Rank defences by their worst case over attacks, from the cards of finished sweeps.

    FOLDER is searched for card.json. Rows that cannot be relied on are flagged, and say why.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.leaderboard.pages import build
        from backfire.leaderboard.words import nobody, reasons

        made = build(folder, out)
        if json_output:
            found = {
                "page": str(made.page),
                "table": str(made.table),
                "cards": made.cards,
                "refused": list(made.refused),
                "benches": [
                    {
                        "bench": bench.bench.name,
                        "hash": bench.bench.hash,
                        "score": bench.score,
                        "nobody_ranked": nobody(bench),
                        "standings": [
                            {
                                "rank": row.rank,
                                "defence": row.defence.name,
                                "worst_case": row.worst_case.value,
                                "worst_attack": bench.attacks[row.worst].name,
                                "seeds": row.worst_case.n,
                                "clean_accuracy": row.clean.value,
                                "work": row.work,
                                "flags": list(row.flags),
                                "reasons": reasons(row, bench),
                                "replay": list(row.replay),
                            }
                            for row in bench.standings
                        ],
                    }
                    for bench in made.benches
                ],
            }
            say(json.dumps(found, indent=2))
            return
        for line in made.refused:
            say(f"left out: {line}", err=True)
        for bench in made.benches:
            say(f"{printable(bench.bench.name, 80)}, {printable(bench.score, 40)}:")
            if line := nobody(bench):
                say(f"  {printable(line, 600)}")
            for row in bench.standings:
                value = 100 * (row.worst_case.value or 0.0)
                flags = f"  [{', '.join(row.flags)}]" if row.flags else ""
                name = printable(row.defence.name, 64)
                say(f"  {row.rank or '-':>4}  {name}: {value:.1f} %{flags}")
                for line in reasons(row, bench):
                    say(f"        {printable(line, 600)}")
        say(f"Leaderboard: {printable(str(made.page))}")
