"""Ties and copies: nobody is preferred for its side, its place or for being many.

The rules and steps are found by themselves, so that a new one is met by all of this.
"""

import itertools

import aggregation_oracles as oracle
import found_rules
import numpy as np
import pytest
import torch

from strategies.aggregation.base import Context
from strategies.aggregation.mda import CHOICES, closest_together
from strategies.aggregation.meamed import Meamed
from strategies.aggregation.parts.chain import aggregate, infeasible
from strategies.aggregation.parts.gram import distances, levelled
from strategies.aggregation.parts.sorting import mean_around_median
from strategies.aggregation.updates import Updates

F, N = 2, 11
RULES, STEPS = found_rules.rules(F), found_rules.steps(F)
LINES = {kind: [rule] for kind, rule in RULES.items()} | {
    f"nearest_neighbour_mixing, {kind}": [STEPS["nearest_neighbour_mixing"], rule]
    for kind, rule in RULES.items()
}


def answer(line, rows, own=None, names=None):
    rows = torch.tensor(np.asarray(rows), dtype=torch.float64)
    names = names or tuple(f"agent-{at:02}" for at in range(len(rows)))
    updates = Updates(rows, torch.ones(len(rows), dtype=torch.float64), names)
    own = torch.linspace(0.5, 1.5, rows.shape[1], dtype=torch.float64) if own is None else own
    return aggregate(line[-1], line[:-1], updates, {}, Context(seed=3, own=own)).update.numpy()


def with_copies(draws, copies, d=5):
    """Return honest rows, and `copies` copies of an attacker's on the side of ALIE."""
    honest = draws.standard_normal((N - copies, d)) + 0.5
    attacker = honest.mean(0) - 1.5 * honest.std(0)
    return np.concatenate([honest, np.repeat(attacker[None], copies, 0)])


def on_a_grid(draws, d=3):
    """Return rows of small whole numbers, among which distances tie all the time."""
    return draws.integers(-2, 3, (N, d)).astype(float) + np.array([4, 0, 0])


def rounds(seed):
    draws = np.random.default_rng(seed)
    yield from (with_copies(draws, copies) for copies in range(1, F + 1))
    yield from (on_a_grid(draws) for _ in range(6))


def close(one, other, size=1.0):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-8 * size)


CASE = [
    (1, [-1, -1, 0, 0.1, 0.2], -0.175),
    (1, [1, 1, 0, -0.1, -0.2], 0.175),
    (1, [-3, -3, -1, 0, 0.5, 0.5], -0.6),
    (1, [3, 3, 1, 0, -0.5, -0.5], 0.6),
]


@pytest.mark.parametrize(("f", "values", "right"), CASE)
def test_copies_do_not_draw_the_mean_around_the_median_to_their_side(f, values, right):
    """Case meamed-identical-updates."""
    assert answer([Meamed(f=f)], np.array(values)[:, None])[0] == pytest.approx(right, abs=1e-12)


def test_the_mean_around_the_median_is_that_of_its_definition_for_all_small_sets():
    for n in range(1, 6):
        for values in itertools.combinations_with_replacement((-3, -2, -1, 0, 1, 2, 4), n):
            rows = torch.tensor(values, dtype=torch.float32)[:, None]
            for keep in range(1, n + 1):
                found = float(mean_around_median(list(rows), keep))
                assert found == pytest.approx(float(oracle.mean_of_closest(values, keep)))


def test_of_values_that_tie_either_side_fills_half_of_the_places():
    rows = torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 1.0])[:, None]  # two copies against one
    assert float(mean_around_median(list(rows), 4)) == 0.0
    assert float(mean_around_median(list(rows), 5)) == 0.0
    assert float(mean_around_median(list(rows), 6)) == pytest.approx(-1 / 6)


@pytest.mark.parametrize("name", sorted(LINES))
def test_mirrored_updates_have_the_mirrored_aggregate(name):
    line = LINES[name]
    for rows in rounds(1):
        own = torch.tensor(rows.mean(0))
        close(answer(line, -rows, -own), -answer(line, rows, own))


@pytest.mark.parametrize("name", sorted(LINES))
def test_the_order_of_agents_never_matters_where_some_are_copies(name):
    draws = np.random.default_rng(2)
    for copies in range(1, F + 1):
        rows = with_copies(draws, copies)
        names = tuple(f"agent-{at:02}" for at in range(N))
        first = answer(LINES[name], rows)
        for _ in range(5):
            order = draws.permutation(N)
            moved = tuple(names[at] for at in order)
            close(answer(LINES[name], rows[order], names=moved), first)


def by_distance(name):
    """Return whether a line has no coordinates of mixed rows that tie, each rounded by itself."""
    rows = next(rounds(0))
    updates = Updates(torch.tensor(rows), torch.ones(N, dtype=torch.float64), tuple("abcdefghijk"))
    context = Context(own=torch.ones(rows.shape[1], dtype=torch.float64))
    result = aggregate(LINES[name][-1], (), updates, {}, context)
    return len(LINES[name]) == 1 or result.trust is not None


@pytest.mark.parametrize("name", sorted(name for name in LINES if by_distance(name)))
def test_rounding_does_not_break_ties(name):
    """Tenths are no floats: their distances tie but for the last digit."""
    size = 100.0 if name.endswith("geometric_median") else 1.0  # its smoothing is a length
    for rows in rounds(3):
        own = torch.tensor(rows.mean(0))
        close(answer(LINES[name], rows / 10, own / 10), answer(LINES[name], rows, own) / 10, size)


DEFINED = {
    "median": oracle.median,
    "trimmed_mean": lambda rows: oracle.trimmed_mean(rows, F),
    "meamed": lambda rows: oracle.mean_around_median(rows, N - F),
    "krum": lambda rows: oracle.krum(rows, F),
    "multi_krum": lambda rows: oracle.multi_krum(rows, F),
    "bulyan": lambda rows: oracle.bulyan(rows, F),
    "mda": lambda rows: oracle.mda(rows, F),
    "geometric_median": lambda rows: oracle.geometric_median(rows, np.ones(N)),
}


@pytest.mark.parametrize("kind", sorted(DEFINED))
def test_ties_are_those_of_the_definition(kind):
    draws = np.random.default_rng(4)
    tolerance = 1e-5 if kind == "geometric_median" else 1e-8
    for copies in range(F + 1):
        rows = with_copies(draws, copies)
        close(answer([RULES[kind]], rows), DEFINED[kind](rows), tolerance / 1e-8)
    for _ in range(12):
        rows = on_a_grid(draws)
        close(answer([RULES[kind]], rows), DEFINED[kind](rows), tolerance / 1e-8)


def test_mixing_takes_the_first_of_those_at_the_same_distance():
    draws = np.random.default_rng(5)
    mean = [STEPS["nearest_neighbour_mixing"], RULES["mean"]]
    multi = [STEPS["nearest_neighbour_mixing"], RULES["multi_krum"]]
    for _ in range(20):
        rows = on_a_grid(draws)
        mixed = oracle.nearest_neighbour_mixing(rows, F)
        close(answer(mean, rows), mixed.mean(0))
        # In units of 1 / (n - f) the mixed rows are whole numbers, and tie exactly.
        close(answer(multi, rows), oracle.multi_krum(np.round(mixed * (N - F)), F) / (N - F))


def test_mda_leaves_out_the_best_where_fewer_than_f_would_do():
    rows = np.array([[0.0], [2.0], [1.0], [1.0], [9.0]])
    squared = oracle.squared(rows)
    assert closest_together(squared, 1).tolist() == [0, 1, 2, 3]
    square = np.array([[0.0, 0], [2, 0], [0, 2], [2, 2], [1, 1], [90, 0], [0, 90]])
    assert closest_together(oracle.squared(square), 3).tolist() == [0, 1, 2, 4]  # not 0, 1, 2, 3
    copies = np.zeros((40, 1))
    assert closest_together(oracle.squared(copies), 16).tolist() == list(range(24))
    assert CHOICES < 10**6  # else the last line would take hours


def test_values_apart_by_rounding_are_levelled_and_others_are_not():
    values = np.array([0.3, 0.1 + 0.2, 0.3 + 1e-9, 1e20, 1e20 + 1e5, 0.0])
    level = levelled(values, 1e-12 * values)
    assert level.tolist() == [0.3, 0.3, 0.3 + 1e-9, 1e20, 1e20, 0.0]


def test_an_update_far_away_does_not_make_the_others_tie():
    rows = np.random.default_rng(6).standard_normal((N, 4))
    near = answer([RULES["krum"]], rows)
    rows[np.flatnonzero((rows != near).any(1))[-1]] = 1e12
    assert any(np.array_equal(answer([RULES["krum"]], rows), row) for row in rows)
    close(answer([RULES["krum"]], rows), oracle.krum(rows, F))


@pytest.mark.parametrize("n", [4, 7, 12])
def test_the_geometric_median_of_copies_is_exact(n):
    """Weiszfeld's steps alone were 1.3e-3 off after a hundred."""
    draws = np.random.default_rng(n)
    for _ in range(10):
        rows = draws.standard_normal((n, 3))
        rows[: n // 2] = rows[0]
        found = answer([RULES["geometric_median"]], rows)
        far = np.linalg.norm(rows - found, axis=1).sum()
        best = min(np.linalg.norm(rows - row, axis=1).sum() for row in rows)
        assert far <= best + n * 1e-6  # the smoothing


def test_every_line_here_is_feasible():
    assert all(infeasible(line[-1], line[:-1], N) is None for line in LINES.values())


@pytest.mark.parametrize("copies", [1, 2])
def test_a_huge_update_blurs_nobody_elses_distances(copies):
    """A sender far away decides no tie among others: theirs are known to far more digits."""
    draws = np.random.default_rng(8)
    honest = draws.random(5) + 1e-3 * draws.standard_normal((N - copies, 5))
    rows = np.concatenate([honest, np.repeat(1e4 * honest[:1], copies, 0)])  # last among ties
    updates = Updates(torch.tensor(rows), torch.ones(N, dtype=torch.float64), tuple("abcdefghijk"))
    found = distances(updates, 2**30)
    exact = ((honest[:, None] - honest) ** 2).sum(2)
    np.testing.assert_allclose(found[:-copies, :-copies], exact, rtol=1e-9)
    assert (found[-copies:, -copies:] == 0).all()
