"""Mutation testing: ``python tests/mutation run``, then ``report FILE``.

``run`` draws mutants, judges them and adds a JSON line for each to a file. ``report`` counts them
and holds each survivor against survivors.toml. Run it with OMP_NUM_THREADS=1.
"""

import argparse
import json
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from mutation.children import scratch
from mutation.config import CACHE, ROOT, Config, configured
from mutation.judge import CONTROL, Verdict, judge
from mutation.ledger import report
from mutation.mutants import Mutant, found_again, sample


def run(config: Config, args: argparse.Namespace) -> None:
    """Draw and judge."""
    config = replace(config, tests=args.tests or config.tests)
    drawn = [m for m in draw(config, args) if any(fnmatch(m.file, glob) for glob in args.only)]
    mutants = [replace(m, operator=CONTROL, after="") for m in drawn[: config.controls]] + drawn
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with scratch() as tree, args.out.open("a") as out:

        def tell(verdict: Verdict) -> None:
            print(verdict.line(), file=out, flush=True)

        judge(mutants, config, tree, args.budget or config.budget, tell)
    report([json.loads(line) for line in args.out.read_text().splitlines()])


def draw(config: Config, args: argparse.Namespace) -> list[Mutant]:
    """Return a fair sample, or the survivors of an earlier run, in the code as it is now."""
    if args.again is None:
        seed = config.seed if args.seed is None else args.seed
        return sample(config, ROOT, args.count or config.count, seed)
    records = [json.loads(line) for line in args.again.read_text().splitlines()]
    kept = [r for r in records if r["verdict"] == "survived" and r["operator"] != CONTROL]
    again = [(record, found_again(record, config, ROOT)) for record in kept]
    for record, mutant in again:
        if mutant is None:
            print(f"no longer there: {record['file']} {record['where']}: {record['before']}")
    return [mutant for _, mutant in again if mutant is not None]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--count", type=int)
    running.add_argument("--seed", type=int)
    running.add_argument("--budget", type=float, help="CPU seconds of tests for each mutant")
    running.add_argument("--only", nargs="*", default=["*"], help="those of these files (globs)")
    running.add_argument("--tests", nargs="*", help="files and folders of tests to choose from")
    running.add_argument("--again", type=Path, help="judge the survivors of this file again")
    running.add_argument("--out", type=Path, default=CACHE / "mutants.jsonl")
    commands.add_parser("report").add_argument("file", type=Path)
    args = parser.parse_args()
    config = configured()
    if args.command == "run":
        run(config, args)
    else:
        report([json.loads(line) for line in args.file.read_text().splitlines()])


if __name__ == "__main__":
    main()
