"""The survivors that no test can kill, each with its reason; and the count of a run."""

import tomllib
from collections import Counter
from collections.abc import Sequence

from mutation.config import HERE

LEDGER = HERE / "survivors.toml"
KEY = ("file", "where", "before", "after")


def equivalents() -> dict[tuple[str, ...], str]:
    """Return why each named mutant is equivalent."""
    entries = tomllib.loads(LEDGER.read_text()).get("equivalent", [])
    return {tuple(entry[key] for key in KEY): entry["why"] for entry in entries}


def report(records: Sequence[dict]) -> None:
    """Print a run's figures, and each survivor with what the ledger says of it."""
    judged = [record for record in records if record["operator"] != "Control"]
    named, verdicts = equivalents(), Counter(record["verdict"] for record in judged)
    survivors = [record for record in judged if record["verdict"] == "survived"]
    open_ones = [record for record in survivors if _key(record) not in named]
    for record in survivors:
        why = named.get(_key(record), "NOT NAMED")
        print(f"\n{record['file']}:{record['line']} {record['where']} ({record['operator']}; "
              f"{record['tests']} tests, {record['left_out']} left out)\n  - {record['before']}"
              f"\n  + {record['after']}\n  {why}")  # fmt: skip
    share = len(survivors) / max(len(judged), 1)
    print(
        f"\n{len(judged)} mutants: {dict(verdicts)}; survivors {share:.1%}, of which "
        f"{len(survivors) - len(open_ones)} equivalent and {len(open_ones)} not named"
    )


def _key(record: dict) -> tuple[str, ...]:
    return tuple(record[key] for key in KEY)
