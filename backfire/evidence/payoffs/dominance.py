"""Dominated strategies of a zero-sum game, by pure and by mixed strategies, and their elimination.

Source: R. D. Luce & H. Raiffa, "Games and Decisions" (1957); domination by mixed strategies as
a linear program: D. G. Pearce, "Rationalizable strategic behavior and the problem of perfection",
Econometrica 52 (1984) 1029-1050.

Rows are the attackers' strategies, who want entries high; columns the defender's, who wants them
low.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from backfire.evidence.payoffs.zero_sum import EXACT, TOLERANCE, Floats, checked, safest, scale


class Dominated(NamedTuple):
    """A strategy that its player never needs.

    Attributes:
        strategy: Its index.
        strict: True where it is worse whatever the other does; False (weakly) where it is never
            better and somewhere worse.
        by: Share of each strategy in a mix that dominates it, float64; a single 1 where one
            strategy does.
    """

    strategy: int
    strict: bool
    by: Floats


def dominated_rows(matrix: Floats, among: Sequence[int] | None = None) -> tuple[Dominated, ...]:
    """Return the attacker strategies that are dominated, each as strictly as it is.

    Args:
        matrix: Payoffs, float (rows, columns).
        among: Only these are asked about; None for all.
    """
    array = checked(matrix) / scale(matrix)
    found = (_dominated(array, row) for row in (range(len(array)) if among is None else among))
    return tuple(one for one in found if one)


def dominated_columns(matrix: Floats, among: Sequence[int] | None = None) -> tuple[Dominated, ...]:
    """Return the defender strategies that are dominated, each as strictly as it is."""
    return dominated_rows(-checked(matrix).T, among)


def dominant_row(matrix: Floats) -> int | None:
    """Return the attacker strategy that dominates all others (weakly at least); None if none."""
    array = checked(matrix)
    slack = EXACT * scale(array)
    best = (array >= array.max(axis=0, keepdims=True) - slack).all(axis=1)
    # Two such rows are the same strategy under two names.
    return int(best.argmax()) if best.sum() == 1 else None


def dominant_column(matrix: Floats) -> int | None:
    """Return the defender strategy that dominates all others (weakly at least); None if none."""
    return dominant_row(-checked(matrix).T)


def eliminate(
    matrix: Floats, *, strict: bool = True
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Remove dominated strategies of both players until none is left.

    Strict elimination ends in the same game in whatever order it is done. Weak elimination does
    not; here each round removes all that are dominated at its start.

    Args:
        matrix: Payoffs, float (rows, columns).
        strict: False to remove weakly dominated strategies too.

    Returns:
        Rows left, columns left, rounds.
    """
    array = checked(matrix)
    rows, columns, rounds = np.arange(array.shape[0]), np.arange(array.shape[1]), 0
    while True:
        part = array[np.ix_(rows, columns)]
        bad_rows = [one.strategy for one in dominated_rows(part) if one.strict or not strict]
        bad_columns = [one.strategy for one in dominated_columns(part) if one.strict or not strict]
        if not bad_rows and not bad_columns:
            return tuple(map(int, rows)), tuple(map(int, columns)), rounds
        rows, columns = np.delete(rows, bad_rows), np.delete(columns, bad_columns)
        rounds += 1


def _dominated(array: Floats, row: int) -> Dominated | None:
    others = np.delete(np.arange(len(array)), row)
    if len(others) == 0:
        return None
    gaps = array[others] - array[row]
    best = gaps.max(axis=0)
    if (best < -EXACT).any():  # it is the only best answer to something
        return None
    found = _by_one(gaps)
    if not (found and found[0]):
        # Where it is a best answer to something, nothing is better everywhere.
        found = _by_mix(gaps, might_be_strict=bool((best > EXACT).all())) or found
    return Dominated(row, found[0], np.insert(found[1], row, 0.0)) if found else None


def _by_one(gaps: Floats) -> tuple[bool, Floats] | None:
    strictly = (gaps > EXACT).all(axis=1)
    weakly = (gaps >= -EXACT).all(axis=1) & (gaps > EXACT).any(axis=1)
    for which, strict in ((strictly, True), (weakly, False)):
        if which.any():
            mix = np.zeros(len(gaps))
            mix[which.argmax()] = 1.0
            return strict, mix
    return None


def _by_mix(gaps: Floats, might_be_strict: bool) -> tuple[bool, Floats] | None:
    if might_be_strict:
        mix, least = safest(gaps)
        if abs(least) > TOLERANCE:
            return (True, mix) if least > 0 else None
    return _weakly_by_mix(gaps)


def _weakly_by_mix(gaps: Floats) -> tuple[bool, Floats] | None:
    rows, columns = gaps.shape
    found = linprog(
        -gaps.sum(axis=1),
        A_ub=-gaps.T,
        b_ub=np.zeros(columns),
        A_eq=np.ones((1, rows)),
        b_eq=[1.0],
        bounds=[(0, 1)] * rows,
        method="highs",
    )
    dominates = found.status == 0 and -found.fun > TOLERANCE * columns
    return (False, np.clip(found.x, 0, 1)) if dominates else None
