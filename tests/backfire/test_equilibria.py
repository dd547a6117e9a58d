"""Payoffs, equilibria and dominated strategies, against worked examples and against nashpy."""

import warnings
from dataclasses import dataclass, field

import nashpy as nash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backfire.evidence.payoffs.dominance import (
    dominant_column,
    dominant_row,
    dominated_columns,
    dominated_rows,
    eliminate,
)
from backfire.evidence.payoffs.equilibria import resamples, solve, value_over_seeds
from backfire.evidence.payoffs.matrices import payoff_tables
from backfire.evidence.payoffs.zero_sum import (
    has_support,
    mixed_equilibrium,
    pure_equilibria,
    value_of,
)

# S0 Table 6, what the attackers get: no defence, defence.
TABLE_6 = np.array([(26.2, 13.7), (8.6, 12.3), (54.2, 18.1), (40.3, 20.3), (12.2, 8.8)])
BIASED_RPS = np.array([[0, 2, -1], [-1, 0, 1], [1, -1, 0]])

games = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1)).map(
    lambda key: np.random.default_rng(key[2]).random(key[:2])
)
# Entries of few values: ties, several equilibria, weak domination.
tied_games = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1)).map(
    lambda key: np.random.default_rng(key[2]).integers(0, 3, key[:2]).astype(float)
)


def test_table_6_of_s0():
    found = solve(TABLE_6)
    assert [(one.attacker, one.defender, one.value) for one in found.pure] == [(3, 1, 20.3)]
    assert found.mixed.value == pytest.approx(20.3)
    assert found.mixed.rows == pytest.approx(np.eye(5)[3])
    assert found.mixed.columns == pytest.approx([0, 1])
    # "The dominant strategy of the defender is to enforce a defense" fails in row 2.
    assert found.dominant_defender is None
    assert found.dominated_defenders == ()
    assert found.dominant_attacker is None
    # Once the attackers' rows that nobody would play are gone, the defence dominates.
    assert [one.strategy for one in found.dominated_attackers] == [0, 1, 4]
    assert found.left == ((3,), (1,))
    assert (found.seeds, found.resamples, found.pure[0].share) == (1, 0, None)


def test_biased_rock_paper_scissors():
    found = solve(BIASED_RPS)
    assert found.pure == ()
    assert found.mixed.value == pytest.approx(1 / 12, abs=1e-12)
    assert found.mixed.rows == pytest.approx([1 / 4, 1 / 3, 5 / 12], abs=1e-9)
    assert found.left == ((0, 1, 2), (0, 1, 2))


@settings(max_examples=60, deadline=None)
@given(games)
def test_equilibria_are_those_of_nashpy(game):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Support enumeration compares floats with ==, and now and then loses an equilibrium.
        equilibria = list(nash.Game(game).support_enumeration())
        equilibria = equilibria or list(nash.Game(game).vertex_enumeration())
    found = mixed_equilibrium(game)
    assert found.value == pytest.approx(equilibria[0][0] @ game @ equilibria[0][1], abs=1e-9)
    assert any(
        np.allclose(found.rows, rows, atol=1e-6) and np.allclose(found.columns, columns, atol=1e-6)
        for rows, columns in equilibria
    )
    pure = {
        (int(rows.argmax()), int(columns.argmax()))
        for rows, columns in equilibria
        if np.isclose(rows.max(), 1) and np.isclose(columns.max(), 1)
    }
    assert set(pure_equilibria(game)) == pure
    assert has_support(game, found.support)


@settings(max_examples=60, deadline=None)
@given(tied_games)
def test_no_player_gains_by_leaving_an_equilibrium(game):
    found = mixed_equilibrium(game)
    assert (game @ found.columns).max() == pytest.approx(found.value, abs=1e-7)
    assert (found.rows @ game).min() == pytest.approx(found.value, abs=1e-7)
    assert value_of(game) == pytest.approx(found.value, abs=1e-7)
    for row, column in pure_equilibria(game):
        assert game[row, column] == game[:, column].max() == game[row].min()


@settings(max_examples=40, deadline=None)
@given(tied_games, st.floats(1e-3, 1e3), st.floats(-5, 5))
def test_units_of_the_payoffs_do_not_matter(game, factor, shift):
    other = game * factor + shift
    assert pure_equilibria(other) == pure_equilibria(game)
    assert value_of(other) == pytest.approx(value_of(game) * factor + shift, abs=1e-5 * factor)


def test_of_several_equilibria_each_support_is_found_and_no_other():
    pennies_twice = np.array([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    assert has_support(pennies_twice, ((0, 1), (0, 1)))
    assert has_support(pennies_twice, ((1, 2), (1, 2)))
    assert has_support(pennies_twice, ((0, 1, 2), (0, 1, 2)))
    assert not has_support(pennies_twice, ((0, 2), (0, 1)))
    assert not has_support(pennies_twice, ((1,), (0, 1)))


def dominators_by_grid(game, row, steps=12):
    """Whether a mix of the others dominates, by trying all mixes in steps of a twelfth."""
    others = np.delete(game, row, axis=0)
    if len(others) == 0:
        return False, False
    mixes = np.array(
        [m for m in np.ndindex(*[steps + 1] * len(others)) if sum(m) == steps], dtype=float
    )
    gaps = mixes / steps @ others - game[row]
    strictly = (gaps > 1e-9).all(axis=1).any()
    weakly = ((gaps > -1e-9).all(axis=1) & (gaps > 1e-9).any(axis=1)).any()
    return bool(strictly), bool(weakly)


@settings(max_examples=60, deadline=None)
@given(tied_games)
def test_dominated_strategies_are_those_of_an_exhaustive_search(game):
    # With entries 0, 1, 2 and three others at most, mixes in twelfths find every domination.
    rows = {one.strategy: one for one in dominated_rows(game)}
    for row in range(len(game)):
        strictly, weakly = dominators_by_grid(game, row)
        assert (row in rows) == weakly
        if row in rows:
            assert rows[row].strict == strictly
            gaps = rows[row].by @ game - game[row]
            assert gaps.min() >= -1e-7
            assert gaps.max() > 1e-7
            assert rows[row].by[row] == 0
    columns = {one.strategy: one.strict for one in dominated_columns(game)}
    assert columns == {one.strategy: one.strict for one in dominated_rows(-game.T)}


def test_what_dominates_is_told_as_a_mix_of_shares():
    (alone,) = dominated_rows(np.array([[1.0, 1], [0, 0], [1, 0.5]])[:2])
    assert (alone.strategy, alone.strict, alone.by.tolist()) == (1, True, [1, 0])


def test_a_mix_can_dominate_where_no_single_strategy_does():
    game = np.array([[4.0, 0], [0, 4], [1, 1]])
    (found,) = dominated_rows(game)
    assert (found.strategy, found.strict) == (2, True)
    assert found.by == pytest.approx([0.5, 0.5, 0])
    assert dominated_rows(np.array([[4.0, 0], [0, 4], [2, 2]])) == ()
    (weak,) = dominated_rows(np.array([[4.0, 0, 1], [0, 4, 1], [2, 2, 0]]))
    assert (weak.strategy, weak.strict) == (2, False)


def test_dominant_strategies():
    game = np.array([[3.0, 2], [1, 2]])
    assert (dominant_row(game), dominant_column(game)) == (0, None)
    assert dominant_column(np.array([[1.0, 0], [2, 1]])) == 1
    assert dominant_row(np.array([[1.0, 1], [1, 1]])) is None


def test_elimination_goes_on_until_nothing_is_dominated():
    game = np.array([[3.0, 1, 4], [2, 0, 5], [1, -1, 0]])
    # Row 3 falls; then the columns that it held; then a row.
    assert eliminate(game) == ((0,), (1,), 2)
    assert eliminate(BIASED_RPS) == ((0, 1, 2), (0, 1, 2), 0)
    weakly = np.array([[1.0, 1], [1, 0]])
    assert eliminate(weakly)[0] == (0, 1)
    # Both players' at once: with the row gone first, the column would be no worse than the other.
    assert eliminate(weakly, strict=False) == ((0,), (1,), 1)


@settings(max_examples=40, deadline=None)
@given(games)
def test_elimination_keeps_the_value_and_the_equilibria(game):
    rows, columns, _ = eliminate(game)
    assert value_of(game[np.ix_(rows, columns)]) == pytest.approx(value_of(game), abs=1e-9)
    found = mixed_equilibrium(game).support
    assert set(found[0]) <= set(rows)
    assert set(found[1]) <= set(columns)


def test_shares_over_all_resamples_are_exact():
    # Two strategies, one defender; the second wins with seed 0 only, and ties never happen.
    by_seed = np.array([[[0.0], [0.9]], [[0.5], [0.1]], [[0.5], [0.1]]])
    found = solve(by_seed)
    # Means: 1/3 against 11/30. It wins in resamples with seed 0 once or more: 1 - (2/3)^3.
    assert [(one.attacker, one.defender) for one in found.pure] == [(1, 0)]
    assert found.pure[0].share == pytest.approx(1 - (2 / 3) ** 3)
    assert found.mixed_share == pytest.approx(1 - (2 / 3) ** 3)
    assert found.dominant_attacker.share == pytest.approx(1 - (2 / 3) ** 3)
    assert found.dominated_attackers[0].share == pytest.approx(1 - (2 / 3) ** 3)
    assert found.left_share == pytest.approx(1 - (2 / 3) ** 3)
    assert (found.resamples, found.seeds) == (10, 3)


def test_resamples_have_the_probabilities_of_drawing_with_replacement():
    payoffs = np.random.default_rng(2).random((4, 2, 3))
    found = list(resamples(payoffs))
    assert sum(one.weight for one in found) == pytest.approx(1)
    mean = sum(one.weight * one.matrix for one in found)
    variance = sum(one.weight * (one.matrix - mean) ** 2 for one in found)
    assert mean == pytest.approx(payoffs.mean(axis=0))
    assert variance == pytest.approx(payoffs.var(axis=0) / 4)


def test_many_seeds_are_drawn_and_the_same_payoffs_draw_the_same():
    payoffs = TABLE_6 + np.random.default_rng(4).normal(0, 4, (8, 5, 2))
    first, again = solve(payoffs), solve(payoffs.copy())
    assert first.pure == again.pure
    assert first.value == again.value
    assert first.value.low < first.mixed.value < first.value.high
    assert 0.5 < first.pure[0].share <= 1


def test_a_game_between_equals_survives_in_few_resamples():
    payoffs = np.random.default_rng(1).normal(0.5, 0.1, (5, 3, 3))
    found = solve(payoffs)
    assert found.mixed_share < 0.9
    assert found.value.value == pytest.approx(found.mixed.value)
    assert 0.3 < found.value.low <= found.mixed.value <= found.value.high < 0.7


def test_the_interval_of_a_value_holds_the_true_one():
    # Percentiles over all resamples of five seeds hold it in about 80 % of such games.
    draw, held, games = np.random.default_rng(5), 0, 150
    for _ in range(games):
        truth = draw.uniform(0.2, 0.8, (2, 2))
        payoffs = draw.beta(20 * truth, 20 * (1 - truth), (5, 2, 2))
        mixed = mixed_equilibrium(payoffs.mean(axis=0))
        held += value_over_seeds(payoffs, mixed, (0.0, 1.0)).holds(value_of(truth))
    assert held >= stats.binom.ppf(1e-4, games, 0.93)


def test_a_saddle_point_has_the_interval_of_its_cell():
    payoffs = np.array([[[0.9, 0.5], [0.2, 0.1]], [[0.8, 0.6], [0.2, 0.1]], [[0.9, 0.4], [0.1, 0]]])
    found = solve(payoffs, (0.0, 1.0))
    assert found.value.values == (0.5, 0.6, 0.4)
    assert (found.value.low, found.value.high) == pytest.approx((0.252, 0.748), abs=1e-3)


@pytest.mark.parametrize("bad", [np.zeros((0, 2, 2)), np.full((2, 2), np.nan), np.zeros(3)])
def test_no_game_is_refused(bad):
    with pytest.raises(ValueError, match="expected finite payoffs"):
        solve(bad)


@dataclass(frozen=True)
class Line:
    at: dict = field(default_factory=dict)
    seed: int = 0
    defender: str = "undefended"
    group: str = "malicious"
    agent: str = ""
    score: str = "asr_all"
    value: float | None = 0.5
    std: float | None = 0.1
    agents: int = 5


def lines(seeds=(0, 1)):
    names = ("random", "orthogonal")
    return [
        Line({"trigger": t, "N": n}, s, d, value=(i + 1) / 10 + j / 100 + s / 1000 + n / 10000)
        for n in (5, 100)
        for s in seeds
        for i, t in enumerate(names)
        for j, d in enumerate(("undefended", "bat"))
    ]


def test_payoffs_come_from_the_rows_of_a_sweep():
    others = [Line({"trigger": "random", "N": 5}, 0, group="early", value=1.0)]
    five, hundred = payoff_tables([*lines(), *others], ["trigger"])
    assert (five.at, hundred.at) == ({"N": 5}, {"N": 100})
    assert five.attackers == ("random", "orthogonal")
    assert five.defenders == ("undefended", "bat")
    assert five.seeds == (0, 1)
    assert five.attacker == pytest.approx(np.array([[0.101, 0.111], [0.201, 0.211]]))
    # Eq. 2, and what Eq. 3 rests on: what one gets the other loses.
    assert five.attacker + five.defender == pytest.approx(np.ones((2, 2)))
    assert five.stds == pytest.approx(np.full((2, 2), 0.1))
    assert five.estimate(1, 0).values == pytest.approx((0.2005, 0.2015))
    assert five.best_attack(1) == 1
    found = solve(five.by_seed)
    assert [(one.attacker, one.defender, one.share) for one in found.pure] == [(1, 0, 1.0)]


def test_strategies_are_combinations_of_the_axes():
    found = payoff_tables(lines(), ["trigger", "N"])
    assert len(found) == 1
    assert found[0].attackers[:2] == ("trigger random, N 5", "trigger orthogonal, N 5")
    assert found[0].choices[3] == {"trigger": "orthogonal", "N": 100}
    assert found[0].by_seed.shape == (2, 4, 2)


def test_a_seed_without_the_whole_matrix_does_not_count():
    some = [
        one
        for one in lines((0, 1, 2))
        if not (one.seed == 1 and one.defender == "bat" and one.at["trigger"] == "random")
    ]
    assert payoff_tables(some, ["trigger"])[0].seeds == (0, 2)
    never = [
        one for one in some if not (one.defender == "bat" and one.at["trigger"] == "orthogonal")
    ]
    left = payoff_tables(never, ["trigger"])[0]
    assert (left.attackers, left.missing, left.seeds) == (("random",), ("orthogonal",), (0, 2))
    nothing = payoff_tables(
        [one for one in lines() if (one.seed == 0) == (one.defender == "bat")], ["trigger"]
    )[0]
    assert (nothing.attackers, nothing.seeds) == ((), ())
    assert nothing.by_seed.shape == (0, 0, 2)


def test_wrong_axes_and_scores_are_refused():
    with pytest.raises(ValueError, match="expected axes among trigger, N, got 'rate'"):
        payoff_tables(lines(), ["rate"])
    with pytest.raises(ValueError, match="expected scores 'asr' of the group"):
        payoff_tables(lines(), ["trigger"], "asr")


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), [[1.0, np.nan]], [[np.inf], [0.0]]],
    ids=["no rows", "no columns", "a vector", "nan", "infinite"],
)
def test_what_is_no_matrix_of_numbers_is_refused(matrix):
    with pytest.raises(ValueError, match="expected a finite matrix of payoffs"):
        pure_equilibria(matrix)


def test_a_support_has_to_suit_both_players_also_where_the_value_is_not_0():
    game = np.array([[3.0, 0], [1, 2]])  # a quarter and three quarters, halves; value 1.5
    assert has_support(game, ((0, 1), (0, 1)))
    assert has_support(-game.T, ((0, 1), (0, 1)))
    more = np.array([[3.0, 0, 9], [1, 2, 9]])
    assert has_support(more, ((0, 1), (0, 1)))
    assert not has_support(more, ((0, 1), (0, 2)))


@pytest.mark.parametrize(
    ("seeds", "count"), [(1, 0), (2, 3), (3, 10), (5, 126), (6, 200), (9, 200)]
)
def test_up_to_five_seeds_all_resamples_are_taken_and_beyond_200_are_drawn(seeds, count):
    found = list(resamples(np.random.default_rng(3).random((seeds, 2, 2))))
    assert len(found) == count


def test_a_strategy_that_is_the_best_answer_by_a_hair_is_not_dominated():
    assert dominated_rows(np.array([[1.0, 0.5], [0.0, 0.5 + 1e-9]])) == ()
    (tied,) = dominated_rows(np.array([[1.0, 0.5], [0.0, 0.5 + 1e-14]]))
    assert (tied.strategy, tied.strict) == (1, False)
