"""Zero-sum games by matrix: pure equilibria, and a mixed one by linear programming.

Source: J. von Neumann, "Zur Theorie der Gesellschaftsspiele", Mathematische Annalen 100 (1928)
295-320; as linear programs: G. B. Dantzig, "A proof of the equivalence of the programming problem
and the game problem" (1951). Solved by HiGHS (`scipy.optimize.linprog`).

In every matrix here rows are the attackers' strategies and columns the defender's; entries are
what the attackers get and the defender loses.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Floats = NDArray[np.float64]
# HiGHS holds its constraints to 1e-7 of the largest entry; what is smaller is no difference.
TOLERANCE: Final = 1e-6
EXACT: Final = 1e-12


class Mixed(NamedTuple):
    """An equilibrium in mixed strategies.

    Attributes:
        value: What the attackers get and the defender loses.
        rows: Share of each attacker strategy, float64 (rows,), sums to 1.
        columns: Share of each defender strategy, float64 (columns,), sums to 1.
    """

    value: float
    rows: Floats
    columns: Floats

    @property
    def support(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rows and columns that are played at all."""
        return _played(self.rows), _played(self.columns)


def _played(mix: Floats) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(mix > TOLERANCE))


def checked(matrix: Floats) -> Floats:
    """Return the matrix as float64.

    Raises:
        ValueError: If it is no finite, non-empty matrix.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"expected a finite matrix of payoffs, got shape {array.shape}")
    return array


def scale(matrix: Floats) -> float:
    """Return the size of the largest entry, at least 1e-300, against which entries are equal."""
    return max(float(np.abs(matrix).max()), 1e-300)


def pure_equilibria(matrix: Floats) -> tuple[tuple[int, int], ...]:
    """Return the saddle points (row, column): highest of its column, lowest of its row.

    All have the same value. Entries that differ in their last digits are equal.
    """
    array = checked(matrix)
    slack = EXACT * scale(array)
    best = array >= array.max(axis=0, keepdims=True) - slack
    least = array <= array.min(axis=1, keepdims=True) + slack
    return tuple((int(row), int(column)) for row, column in np.argwhere(best & least))


def mixed_equilibrium(matrix: Floats) -> Mixed:
    """Return one equilibrium in mixed strategies; where there are several, the solver's."""
    array = checked(matrix)
    size = scale(array)
    rows, value = safest(array / size)
    columns, _ = safest(-array.T / size)
    return Mixed(value * size, rows, columns)


def value_of(matrix: Floats) -> float:
    """Return the value of the game; without a linear program where there is a saddle point."""
    array = checked(matrix)
    if saddles := pure_equilibria(array):
        return float(array[saddles[0]])
    size = scale(array)
    return safest(array / size)[1] * size


def safest(array: Floats) -> tuple[Floats, float]:
    """Return the mix over rows whose worst column is best, and what it gets there.

    Args:
        array: Float64 (rows, columns), entries of the order of one.
    """
    rows, columns = array.shape
    found = linprog(
        np.append(np.zeros(rows), -1.0),
        A_ub=np.hstack([-array.T, np.ones((columns, 1))]),
        b_ub=np.zeros(columns),
        A_eq=np.append(np.ones(rows), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, 1)] * rows + [(None, None)],
        method="highs",
    )
    mix = np.clip(found.x[:rows], 0, None)
    mix /= mix.sum()
    # What the mix really gets, rather than the solver's own figure.
    return mix, float((mix @ array).min())


def has_support(matrix: Floats, support: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """Return whether an equilibrium exists that plays these rows and columns, each, and no others.

    A game may have several equilibria and the solver shows one; this asks for the one in question.
    """
    rows, columns = support
    if len(rows) == len(columns) == 1:
        return (rows[0], columns[0]) in pure_equilibria(matrix)
    array = checked(matrix) / scale(matrix)
    value = value_of(array)
    return _plays_all(array, rows, value) and _plays_all(-array.T, columns, -value)


def _plays_all(array: Floats, rows: tuple[int, ...], value: float) -> bool:
    """Return whether a mix that guarantees `value` plays all of `rows` and no other."""
    part = array[list(rows)]
    size, columns = part.shape
    # Unknowns: the mix, and its smallest share, which is made as large as can be.
    found = linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.vstack(
            [
                np.hstack([-part.T, np.zeros((columns, 1))]),
                np.hstack([-np.eye(size), np.ones((size, 1))]),
            ]
        ),
        b_ub=np.append(np.full(columns, TOLERANCE / 10 - value), np.zeros(size)),
        A_eq=np.append(np.ones(size), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, 1)] * size + [(None, None)],
        method="highs",
    )
    return bool(found.status == 0 and -found.fun > TOLERANCE)
