"""`compare`: two finished runs or sweeps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backfire.api.results import FinishedGame, FinishedSweep, load
from backfire.api.tables import figure, frame_of, html_table, interval
from backfire.evidence.paired_runs import ComparedRuns, ComparedScore, compare_runs
from scenarios.text.quoting import printable

Finished = FinishedGame | FinishedSweep
Side = str | Path | Finished
_COLUMNS = (
    "defender",
    "group",
    "score",
    "first",
    "second",
    "difference",
    "low",
    "high",
    "seeds",
    "p_holm",
    "told",
)


class Comparison:
    """Two sides with the difference of each score, paired by seed.

    Args:
        found: What the seeds say; see `backfire.evidence.paired_runs`.

    Attributes:
        found: The same: `names`, `seeds`, `common`, `scores`, `scenario`, `notes`.
    """

    def __init__(self, found: ComparedRuns) -> None:
        self.found = found

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before reading the differences."""
        return self.found.notes

    def frame(self) -> Any:  # noqa: ANN401 - of pandas, or a dict
        """Return a row for each score as a pandas DataFrame; without pandas a dict of columns.

        ``difference`` is first - second over the seeds that both have, with its 95 % interval.
        """
        axes = list(dict.fromkeys(name for one in self.found.scores for name in one.at))
        lines = [_values(one) for one in self.found.scores]
        columns = {name: [one.at.get(name) for one in self.found.scores] for name in axes}
        return frame_of(columns | {name: [one[name] for one in lines] for name in _COLUMNS})

    def __repr__(self) -> str:
        first, second = self.found.names
        return f"<{first} against {second}: {len(self.found.common)} seeds in common>"

    def _repr_html_(self) -> str:
        first, second = self.found.names
        heads = ("cell", "defender", "agents", "score", first, second, "difference", "95 %", "told")
        notes = "; ".join(self.notes)
        changed = ", ".join(one.path for one in self.found.scenario[:10]) or "nothing"
        title = f"{first} against {second}. Their scenarios differ in {changed}. {notes}"
        return html_table(title, heads, map(_shown, self.found.scores))


def compare(first: Side | Sequence[Side], second: Side | Sequence[Side]) -> Comparison:
    """Set two sides beside each other: each score of both, and the difference where seeds match.

    Args:
        first: A finished run or sweep, as `play`, `sweep` or `load` return it, or its folder; or
            several runs of other seeds.
        second: Likewise.

    Raises:
        RunFolderError: If a folder is no finished run or sweep; one line.
        ValueError: If two runs of one side have the same scenario and seed.
    """
    sides = (_finished(first, "first"), _finished(second, "second"))
    names = tuple(_name(runs[0].folder.resolve().name, runs) for runs in sides)
    if names[0] == names[1]:
        names = tuple(_name(str(runs[0].folder), runs) for runs in sides)
    one, other = (
        (name, [row for run in runs for row in run.scores], runs[0].scenario)
        for name, runs in zip(names, sides, strict=True)
    )
    return Comparison(compare_runs(one, other))


def _finished(given: Side | Sequence[Side], name: str) -> list[Finished]:
    several = [given] if isinstance(given, str | Path | Finished) else list(given)
    if not several:
        raise ValueError(f"expected at least one run as the {name} side, got none")
    return [one if isinstance(one, Finished) else load(one) for one in several]


def _name(first: str, runs: Sequence[Finished]) -> str:
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"{printable(first, 120)}{more}"


def _values(one: ComparedScore) -> dict[str, Any]:
    paired = one.paired
    return {
        "defender": one.defender,
        "group": one.group,
        "score": one.score,
        "first": one.first.value,
        "second": one.second.value,
        "difference": None if paired is None else paired.difference.value,
        "low": None if paired is None else paired.difference.low,
        "high": None if paired is None else paired.difference.high,
        "seeds": 0 if paired is None else paired.difference.n,
        "p_holm": None if paired is None else paired.p_holm,
        "told": one.told,
    }


def _shown(one: ComparedScore) -> tuple[object, ...]:
    values = _values(one)
    return (
        ", ".join(f"{name}={value}" for name, value in one.at.items()),
        *(values[name] for name in ("defender", "group", "score")),
        *(figure(values[name]) for name in ("first", "second", "difference")),
        interval(values["low"], values["high"]),
        values["told"] or "",
    )
