"""Two runs or two sweeps side by side: each score of both, and the difference, paired by seed.

Games with the same seed share data, partition and draws, so a difference is taken seed by seed
and over the seeds that both sides have. A score that no seed of both sides has is shown, and has
no difference. The p-values of all differences are corrected together (`comparisons`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from backfire.evidence.comparisons import PairedComparison, compare, corrected_together
from backfire.evidence.estimates import Estimate, difference_bounds, estimate
from backfire.evidence.rows import ScoreRow
from backfire.evidence.series import Series, Setting, collect

Told = Literal["higher", "lower", "not told apart"]
_TOLD: Final[dict[str, Told]] = {"better": "higher", "worse": "lower", "tie": "not told apart"}
_Key = tuple[tuple[tuple[str, Setting], ...], str, str, str]


@dataclass(frozen=True)
class ComparedScore:
    """One score of both sides.

    Attributes:
        at: The cell's coordinate on each axis; empty for single runs.
        defender: The defender.
        group: The agents' scenario entry; "malicious" for all; "" for scores of the defender.
        score: Name of the score.
        first: Mean and interval over the seeds of the first side; `n` is 0 where it lacks it.
        second: Likewise of the second side.
        paired: ``first - second`` over the seeds of both; None where they have no seed in common.
    """

    at: Mapping[str, Setting]
    defender: str
    group: str
    score: str
    first: Estimate
    second: Estimate
    paired: PairedComparison | None

    @property
    def told(self) -> Told | None:
        """Whether the first side is higher; None without a paired difference.

        It takes three common seeds, a corrected p-value below 0.05 and an interval without 0.
        """
        return None if self.paired is None else _TOLD[self.paired.verdict]


@dataclass(frozen=True)
class ScenarioChange:
    """A field of the resolved scenarios that differs.

    Attributes:
        path: The field, as for ``--set``: ``agents.mallory.count``.
        first: Its value on the first side; None where it has no such field (or null).
        second: Likewise on the second side.
    """

    path: str
    first: Any
    second: Any


@dataclass(frozen=True)
class ComparedRuns:
    """Two sides, each one run, several runs of different seeds, or a sweep.

    Attributes:
        names: What the sides are called.
        seeds: The seeds of each side, in increasing order.
        common: Seeds that both have.
        scores: All scores of either side, in the order of the first; those of groups and of the
            defenders, not of single agents.
        scenario: The fields that differ; the seeds are left out.
        notes: What to know before reading the differences; one line each.
    """

    names: tuple[str, str]
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    common: tuple[int, ...]
    scores: tuple[ComparedScore, ...]
    scenario: tuple[ScenarioChange, ...]
    notes: tuple[str, ...]


def compare_runs(
    first: tuple[str, Sequence[ScoreRow], Mapping[str, Any]],
    second: tuple[str, Sequence[ScoreRow], Mapping[str, Any]],
) -> ComparedRuns:
    """Set two sides beside each other.

    Args:
        first: Name; lines of the long table; the resolved scenario, or the document of a sweep.
        second: The same of the other side.

    Raises:
        ValueError: If a side has one line twice, as two runs of one scenario and seed have.
    """
    seeds = tuple(tuple(sorted({row.seed for row in rows})) for _, rows, _ in (first, second))
    common = tuple(sorted(set(seeds[0]) & set(seeds[1])))
    scores = _scores(first[:2], second[:2])
    return ComparedRuns(
        names=(first[0], second[0]),
        seeds=(seeds[0], seeds[1]),
        common=common,
        scores=scores,
        scenario=tuple(scenario_changes(first[2], second[2])),
        notes=tuple(_notes(common, scores)),
    )


def _scores(
    first: tuple[str, Sequence[ScoreRow]], second: tuple[str, Sequence[ScoreRow]]
) -> tuple[ComparedScore, ...]:
    one, other = _series(first[1]), _series(second[1])
    keys = list(dict.fromkeys((*one, *other)))
    asked = {
        key: _paired((first[0], one[key]), (second[0], other[key]))
        for key in keys
        if key in one and key in other and one[key].values.keys() & other[key].values.keys()
    }
    answered = dict(zip(asked, corrected_together(list(asked.values())), strict=True))
    return tuple(
        ComparedScore(
            at=dict(at),
            defender=defender,
            group=group,
            score=score,
            first=_estimate(one.get((at, defender, group, score))),
            second=_estimate(other.get((at, defender, group, score))),
            paired=answered.get((at, defender, group, score)),
        )
        for at, defender, group, score in keys
    )


def _series(rows: Sequence[ScoreRow]) -> dict[_Key, Series]:
    """Return the series of defenders and groups in the order of their first lines."""
    order = dict.fromkeys(_key(row) for row in rows if not row.agent)
    found = {
        (tuple(one.at.items()), one.defender, one.group, one.score): one
        for score in dict.fromkeys(key[3] for key in order)
        for one in collect(rows, score)
    }
    return {key: found[key] for key in order if found[key].values}


def _key(row: ScoreRow) -> _Key:
    return tuple(row.at.items()), row.defender, row.group, row.score


def _paired(first: tuple[str, Series], second: tuple[str, Series]) -> PairedComparison:
    bounds = difference_bounds(first[1].bounds, second[1].bounds)
    return compare((first[0], first[1].values), (second[0], second[1].values), bounds=bounds)


def _estimate(series: Series | None) -> Estimate:
    return estimate([]) if series is None else series.estimate


def _notes(common: Sequence[int], scores: Sequence[ComparedScore]) -> Iterator[str]:
    if not common:
        yield "no seed is on both sides: there is no paired difference"
    elif len(common) < 3:
        yield f"{_many(len(common))} on both sides: differences are described, and decide nothing"
    if not any(one.first.n and one.second.n for one in scores):
        yield "no score is on both sides: the defenders, groups or axes have other names"


def _many(seeds: int) -> str:
    return "1 seed is" if seeds == 1 else f"{seeds} seeds are"


def scenario_changes(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[ScenarioChange]:
    """Yield the fields in which two resolved scenarios differ, without their seeds.

    Items of a list go by their names where all have one, by their position otherwise.
    """
    one, other = dict(_fields(first)), dict(_fields(second))
    for path in dict.fromkeys((*one, *other)):
        if one.get(path) != other.get(path) and path not in ("seed", "sweep.seeds"):
            yield ScenarioChange(path, one.get(path), other.get(path))


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    inner = list(_items(value))
    if not inner:
        yield path, value
    for name, item in inner:
        yield from _fields(item, f"{path}.{name}" if path else name)


def _items(value: object) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return ((str(key), item) for key, item in value.items())
    if isinstance(value, list | tuple):
        named = all(isinstance(item, Mapping) and "name" in item for item in value)
        return ((str(item["name"] if named else k), item) for k, item in enumerate(value))
    return ()
