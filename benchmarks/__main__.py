"""One entry point: ``python -m benchmarks [--quick] [NAME ...]``.

Each benchmark is a module with ``run(quick: bool) -> dict`` giving ``name``, ``rows`` (a list of
dicts) and ``note``. Ratios are of both sides measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import resource
import subprocess
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table


def names() -> list[str]:
    """Return the benchmarks of this folder."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(info.name for info in found if not info.name.startswith("_"))


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "cpu_cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "commit": commit,
    }


def show(console: Console, result: dict) -> None:
    """Print one benchmark as a table."""
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    table = Table(*columns, title=result["name"])
    for row in result["rows"]:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    console.print(table)
    console.print(result.get("note", ""), markup=False)


def markdown(results: list[dict], where: dict[str, object]) -> str:
    """Return all results as a page of tables."""
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    parts = [f"Measured on: {facts}.\n"]
    for result in results:
        columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
        lines = [[_cell(row.get(column, "")) for column in columns] for row in result["rows"]]
        table = [columns, ["---"] * len(columns), *lines]
        parts.append(f"## {result['name']}\n")
        parts.append("\n".join("| " + " | ".join(map(str, line)) + " |" for line in table) + "\n")
        parts.append(f"{result.get('note', '')}\n")
    return "\n".join(parts)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names(), []], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute each")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--markdown", type=Path, help="also write the results as tables")
    args = parser.parse_args()
    console = Console(width=140)
    results = []
    console.print(machine())
    for name in args.names or names():
        start = time.perf_counter()
        result = importlib.import_module(f"benchmarks.{name}").run(args.quick)
        result["seconds_in_all"] = round(time.perf_counter() - start, 1)
        result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        results.append(result)
        show(console, result)
        if args.json:
            args.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))
        if args.markdown:
            args.markdown.write_text(markdown(results, machine()))


if __name__ == "__main__":
    main()
