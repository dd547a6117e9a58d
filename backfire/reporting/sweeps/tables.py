"""The tables of a sweep's report: every cell, agent by agent, payoffs with equilibria, findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from backfire.evidence.comparisons import Rank, compare_all, rank
from backfire.evidence.estimates import Estimate, difference_bounds
from backfire.evidence.payoffs.equilibria import Equilibria, solve
from backfire.evidence.payoffs.matrices import Payoffs, payoff_tables
from backfire.evidence.places import DEFENDER, DefendedCell
from backfire.evidence.published.judging import p_words
from backfire.evidence.published.sweep_table import SweepTable, spot_key
from backfire.evidence.published.text import estimate_words, spot_words
from backfire.evidence.series import Series, SeriesRow, Setting, bounds_of, collect
from backfire.evidence.words import reach_words
from backfire.reporting.sweeps.layout import same
from backfire.reporting.text import plain
from learning.method import kind_of
from scenarios.sweep.published import ALL_ATTACKERS
from server.referee.registry import class_of

MAX_ROWS = 400
MAX_AGENT_TABLES = 40
MAX_AGENTS = 12
MAX_PAYOFFS = 12
MAX_VOID = 3
# Amounts may be larger; shares, differences and distances are not.
MOST_SHARE = 2.0
# Behind all scores that are known here.
LAST = 10**6


@dataclass(frozen=True)
class CellTable:
    """Every cell with every defender.

    Attributes:
        axes: Names of the axes.
        columns: The scores.
        rows: For each cell the values of the axes, the defender, and each score.
        more: Rows left out.
    """

    axes: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[Setting], str, Sequence[Series | None]]]
    more: int


def by_rank(scores: Iterable[str]) -> list[str]:
    """Return names of the long table in the order in which tables show scores."""

    def place(name: str) -> int:
        known = class_of(name)
        return LAST if known is None else known.rank

    return sorted(scores, key=place)


def _is_headline(score: str) -> bool:
    known = class_of(score)
    return known is not None and known.headline


def definitions(table: SweepTable) -> dict[str, str]:
    """Return what the scores of a sweep mean, by name; of parts of one score, once."""
    found = (class_of(name) for name in by_rank(table.scores))
    return {kind_of(score): score.definition for score in found if score is not None}


def cell_table(table: SweepTable) -> CellTable:
    """Return the means over agents and seeds of every cell, the scores that matter most."""
    columns = [score for score in by_rank(table.scores) if _is_headline(score)]
    columns += [table.main] if table.main in table.scores and table.main not in columns else []
    found: dict[tuple[object, ...], dict[str, Series]] = {}
    for score in columns:
        for one in table.series(score):
            found.setdefault(spot_key(one.at, one.defender), {})[score] = one
    rows = [
        (tuple(first.at.values()), first.defender, [scores.get(name) for name in columns])
        for scores in list(found.values())[:MAX_ROWS]
        for first in [next(iter(scores.values()))]
    ]
    axes = list(table.rows[0].at) if table.rows else []
    return CellTable(axes, columns, rows, max(0, len(found) - MAX_ROWS))


@dataclass(frozen=True)
class SweepAgentTable:
    """The agents of one cell side by side, as S0's Tables 3 and 4 have them.

    Attributes:
        title: The cell.
        defender: The defender.
        agents: Names, in order.
        rows: Score, and for each agent its mean over seeds.
        means: For each score its mean over agents with the standard deviation across agents.
    """

    title: str
    defender: str
    agents: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Estimate | None]]]
    means: Mapping[str, tuple[float, float | None]]


def agent_tables(table: SweepTable) -> tuple[list[SweepAgentTable], int]:
    """Return the agents' scores by cell, and how many such tables were left out.

    Cells with more than 12 agents are given by mean and standard deviation alone.
    """
    cells: dict[tuple[object, ...], list[SeriesRow]] = {}
    for row in table.rows:
        if row.agent and row.value is not None and _is_of_attacks(row.score):
            cells.setdefault(spot_key(row.at, row.defender), []).append(row)
    shown = list(cells.values())
    return [_agents(rows) for rows in shown[:MAX_AGENT_TABLES]], len(shown[MAX_AGENT_TABLES:])


def _is_of_attacks(score: str) -> bool:
    """Return whether the agents' tables show a score: all are in per cent, and of an attack."""
    return score != "run_time_accuracy" and bounds_of(score)[1] <= MOST_SHARE


def _agents(rows: Sequence[SeriesRow]) -> SweepAgentTable:
    values: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        by_agent = values.setdefault(row.score, {})
        by_agent.setdefault(row.agent, {})[row.seed] = row.value or 0.0
    agents = list(dict.fromkeys(row.agent for row in rows))
    shown = agents if len(agents) <= MAX_AGENTS else []
    means = {score: _across(by_agent.values()) for score, by_agent in values.items()}
    lines = [
        (score, [_mean_of(by_agent.get(agent)) for agent in shown])
        for score, by_agent in values.items()
    ]
    title = ", ".join(f"{name} {value}" for name, value in rows[0].at.items())
    return SweepAgentTable(title, rows[0].defender, shown, lines, means)


def _mean_of(by_seed: Mapping[int, float] | None) -> Estimate | None:
    """Return the plain mean: an interval for each agent and score would drown the table."""
    if not by_seed:
        return None
    values = tuple(by_seed.values())
    return Estimate(float(np.mean(values)), None, None, len(values), values, "none")


def _across(agents: Iterable[Mapping[int, float]]) -> tuple[float, float | None]:
    by_seed: dict[int, list[float]] = {}
    for values in agents:
        for seed, value in values.items():
            by_seed.setdefault(seed, []).append(value)
    means = [float(np.mean(found)) for found in by_seed.values()]
    stds = [float(np.std(found, ddof=1)) for found in by_seed.values() if len(found) > 1]
    spread = float(np.sqrt(np.mean(np.square(stds)))) if stds else None
    return float(np.mean(means)), spread


@dataclass(frozen=True)
class PayoffTable:
    """A payoff matrix with what the players should do.

    Attributes:
        payoffs: The matrix.
        cells: Estimates by row and column.
        solved: Its equilibria.
        words: What they are, a sentence each.
    """

    payoffs: Payoffs
    cells: Sequence[Sequence[Estimate]]
    solved: Equilibria
    words: Sequence[str]

    @property
    def title(self) -> str:
        """Where in the sweep the game is played."""
        return ", ".join(f"{name} {value}" for name, value in self.payoffs.at.items())

    def nash(self, row: int, column: int) -> bool:
        """Return whether a cell is an equilibrium in pure strategies."""
        return any((one.attacker, one.defender) == (row, column) for one in self.solved.pure)

    def out(self, row: int, column: int) -> bool:
        """Return whether a cell lies in a dominated row or column."""
        rows = {one.strategy for one in self.solved.dominated_attackers}
        columns = {one.strategy for one in self.solved.dominated_defenders}
        return row in rows or column in columns


def payoffs(table: SweepTable) -> list[PayoffTable]:
    """Return the payoff matrices of a sweep that names the attackers' strategies."""
    spec = table.spec.payoffs
    if spec is None or not any(
        (row.group, row.agent, row.score) == (ALL_ATTACKERS, "", spec.score)
        for row in table.living(spec.score)
    ):
        return []
    along = [n for group in table.spec.together if set(group) & set(spec.attacker) for n in group]
    axes = list(dict.fromkeys([*spec.attacker, *along]))
    found = payoff_tables(table.living(spec.score), axes, spec.score)
    return [_payoffs(one) for one in found[:MAX_PAYOFFS] if one.by_seed.size]


def _payoffs(one: Payoffs) -> PayoffTable:
    solved = solve(one.by_seed, bounds_of(one.score))
    rows, columns = range(len(one.attackers)), range(len(one.defenders))
    cells = [[one.estimate(i, j) for j in columns] for i in rows]
    return PayoffTable(one, cells, solved, list(_solution(one, solved)))


def _solution(one: Payoffs, solved: Equilibria) -> Iterator[str]:
    for found in solved.pure:
        yield (
            f"Equilibrium in pure strategies: “{plain(one.attackers[found.attacker])}” against "
            f"“{plain(one.defenders[found.defender])}”, where the attackers get "
            f"{100 * found.value:.1f} %{_share(found.share)}."
        )
    if not solved.pure:
        yield "No equilibrium in pure strategies."
        mixed = solved.mixed
        yield (
            f"In mixed strategies the attackers get {100 * mixed.value:.1f} %{_value(solved)}: "
            f"attackers {_mix(mixed.rows, one.attackers)}; defender "
            f"{_mix(mixed.columns, one.defenders)}{_share(solved.mixed_share)}."
        )
    for who, names, dominated in (
        ("attackers", one.attackers, solved.dominated_attackers),
        ("defender", one.defenders, solved.dominated_defenders),
    ):
        for never in dominated:
            kind = "strictly" if never.strict else "weakly"
            yield (
                f"The {who} never need{'s' if who == 'defender' else ''} "
                f"“{plain(names[never.strategy])}” ({kind} dominated{_share(never.share)})."
            )


def _value(solved: Equilibria) -> str:
    return f" ({reach_words(solved.value)})"


def _share(share: float | None) -> str:
    return "" if share is None else f"; so in {100 * share:.0f} % of resamples of the seeds"


def _mix(weights: ArrayLike, names: Sequence[str]) -> str:
    shares = np.asarray(weights, dtype=np.float64)
    parts = (
        f"{plain(name)} {100 * share:.0f} %"
        for name, share in zip(names, shares, strict=True)
        if share > 0.005
    )
    return ", ".join(parts)


def ranking(table: SweepTable) -> tuple[Rank, ...]:
    """Rank the defenders by the mean of the main score over all cells, the lowest first."""
    found = collect(_main_rows(table), table.main, by=[DEFENDER])
    entries = {one.defender: one.values for one in found}
    return rank(entries, higher_is_better=False, bounds=bounds_of(table.main))


def told(table: SweepTable) -> list[str]:
    """Return what the sweep says in sentences: the defenders' order, and what each axis does."""
    places = ranking(table)
    lines = _void(table)
    if len(places) > 1:
        order = "; ".join(
            f"{one.text} {plain(one.name)} {estimate_words(one.estimate)}" for one in places
        )
        lines.append(f"Mean {table.main} over all cells, the lowest first (= is a tie): {order}.")
    elif places:
        lines.append(f"Mean {table.main} over all cells: {estimate_words(places[0].estimate)}.")
    return lines + (_effects(table) if _main_rows(table) else [])


def _void(table: SweepTable) -> list[str]:
    """Return the sentence that says where the model has not learnt, if it is so anywhere."""
    if not table.void:
        return []
    spots = {
        spot_key(row.at, row.defender): DefendedCell(row.at, row.defender) for row in table.rows
    }
    void = [spot for key, spot in spots.items() if key in table.void]
    named = " / ".join(plain(spot_words(spot)) for spot in void[:MAX_VOID])
    more = f" and {len(void) - MAX_VOID} more" if len(void) > MAX_VOID else ""
    dead = ", ".join(plain(name) for name in dict.fromkeys(spot.defender for spot in void))
    return [
        f"The model has not learnt in {len(void)} of {len(spots)} cells (with their defenders): "
        f"{named}{more}. Attack success and interference are void there; curves and grids leave "
        f"these cells out, comparisons and payoffs by them leave out the defenders {dead}."
    ]


def _effects(table: SweepTable) -> list[str]:
    """Return for each axis the difference between its last and its first value, Holm-corrected."""
    ends = {name: (v[0], v[-1]) for name, v in table.axes.items() if len(v) > 1}
    pairs = []
    for name, (first, last) in ends.items():
        by_value = collect(_main_rows(table), table.main, by=[name])
        sides = [
            next((one.values for one in by_value if same(one.at[name], end)), {})
            for end in (last, first)
        ]
        pairs.append(((str(last), sides[0]), (str(first), sides[1])))
    lines = []
    bounds = bounds_of(table.main)
    found = compare_all(pairs, bounds=difference_bounds(bounds, bounds))
    for name, one in zip(ends, found, strict=True):
        p = "" if one.p_holm is None else f", {p_words(one.p_holm)}"
        tie = "; these seeds cannot tell them apart" if one.verdict == "tie" else ""
        lines.append(
            f"{plain(name)} {plain(one.first)} against {plain(one.second)}: {table.main} "
            f"{estimate_words(one.difference, signed=True)}{p}{tie}."
        )
    return lines


def _main_rows(table: SweepTable) -> list[SeriesRow]:
    groups = {row.group for row in table.rows if row.score == table.main and not row.agent}
    group = ALL_ATTACKERS if ALL_ATTACKERS in groups else ""
    return [
        row
        for row in table.living(table.main)
        if row.score == table.main and row.group == group and not row.agent
    ]


def spread_words(mean: float, std: float | None) -> str:
    """Return a mean over agents with their standard deviation, in per cent."""
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")
