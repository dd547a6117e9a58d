"""The search for the strongest factor, step by step, against the textbook's golden section."""

from itertools import pairwise
from math import inf, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.update_attacks.parts.line_search import _best, _brackets, _golden, grid
from clients.update_attacks.parts.vectors import length, times

RATIO = (sqrt(5) - 1) / 2


def textbook(f, a, b, count):
    """Kiefer 1953: each step keeps the inner point that is still inside, and adds one."""
    c, d = b - RATIO * (b - a), a + RATIO * (b - a)
    points = [c, d]
    while len(points) < count:
        if f(c) >= f(d):
            b, d, c = d, c, d - RATIO * (d - a)
            points.append(c)
        else:
            a, c, d = c, d, c + RATIO * (b - c)
            points.append(d)
    return points[:count]


@pytest.mark.parametrize("peak", [0.05, 0.3, 0.5, 0.81, 0.99])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_bracket_is_narrowed_by_golden_sections(peak, count):
    def f(x):
        return -abs(x - peak)

    tried = {}
    _golden(f, 0.0, 1.0, count, tried)
    assert list(tried) == pytest.approx(textbook(f, 0.0, 1.0, count), abs=1e-9)
    assert all(tried[x] == f(x) for x in tried)


def test_a_bracket_that_does_not_begin_at_zero_is_narrowed_alike():
    tried = {}
    _golden(lambda x: -((x - 5.5) ** 2), 4.0, 6.0, 12, tried)
    assert min(tried) > 4
    assert max(tried) < 6
    assert abs(_best(tried) - 5.5) < 2 * RATIO**10
    assert len(tried) == 12


def test_ties_go_to_the_lower_part():
    tried = {}
    _golden(lambda x: 1.0, 0.0, 1.0, 6, tried)
    assert list(tried)[2:] == sorted(list(tried)[2:], reverse=True)
    assert _best(tried) == min(tried)


@pytest.mark.parametrize(
    ("heights", "brackets"),
    [
        ([1, 2, 3], [(1, 2)]),  # the peak is the last
        ([3, 2, 1], [(0, 1)]),  # or the first
        ([1, 3, 2, 1], [(0, 2)]),
        ([1, 3, 3, 1], [(0, 2)]),  # a plateau has one peak, its first
        ([0, 2, 1, 5, 1, 3], [(2, 4), (4, 5)]),  # the two highest, the highest first
        ([4, 1, 4], [(0, 1), (1, 2)]),  # of the same height: in their order
        ([-inf, -inf], []),  # the rule answers to none
        ([-inf, 1], [(0, 1)]),
    ],
)
def test_brackets_lie_between_the_neighbours_of_the_highest_peaks(heights, brackets):
    tried = dict(enumerate(map(float, heights)))
    assert _brackets(dict(reversed(tried.items()))) == brackets


@pytest.mark.parametrize("count", [3, 4, 5, 20])
def test_the_grid_goes_from_the_largest_factor_down_a_thousandth_of_it_by_equal_ratios(count):
    factors = grid(0.7, 5.0, count)
    assert factors[0] == 0
    assert 0.7 in factors
    assert factors == sorted(set(factors))
    assert len(factors) == count
    others = [factor for factor in factors[1:] if factor != 0.7]
    assert others[-1] == 5
    if count > 3:
        assert others[0] == pytest.approx(5e-3)
        ratios = [b / a for a, b in pairwise(others)]
        assert ratios == pytest.approx([ratios[0]] * len(ratios))


# What the attacks measure and scale


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30])
def test_a_length_is_right_where_squares_leave_the_range(scale):
    vector = torch.tensor([3.0, -4.0], dtype=torch.float32) * scale
    assert length(vector) == pytest.approx(5 * scale, rel=1e-4)


def test_the_length_of_nothing_is_zero():
    assert length(torch.zeros(3)) == 0


@given(st.floats(-8, 8), st.floats(0.1, 4))
@settings(max_examples=50, deadline=None)
def test_a_multiple_keeps_its_bound_and_its_direction(factor, bound):
    vector = torch.tensor([0.6, -0.8], dtype=torch.float64)
    wanted = max(-bound, min(bound, factor))  # the vector has length 1
    torch.testing.assert_close(times(vector, factor, bound), vector * wanted)
    torch.testing.assert_close(times(vector, factor), vector * factor)
