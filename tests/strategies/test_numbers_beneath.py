"""What filters and rules stand on, against numbers that others have published or defined."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from learning.curvature.last_layer import GIB
from strategies.aggregation.base import GIBIBYTE
from strategies.aggregation.bulyan import Bulyan
from strategies.aggregation.krum import Krum
from strategies.aggregation.mda import MDA, closest_together
from strategies.aggregation.multi_krum import MultiKrum
from strategies.aggregation.parts.buffers import _weighted_median
from strategies.aggregation.parts.gram import cosines, distances_to
from strategies.aggregation.trimmed_mean import TrimmedMean
from strategies.checks import refuse_unused
from strategies.filtering.parts.lanczos import top_eigenpair
from strategies.filtering.parts.row_draws import _mixed, _turns
from strategies.hooks.poison_patches import PoisonPatches


def test_a_gib_is_a_gib():
    assert GIB == GIBIBYTE == 1024 * 1024 * 1024


def test_words_are_scrambled_as_by_splitmix64():
    """The first outputs of Vigna's splitmix64.c from the state 0."""
    step = 0x9E3779B97F4A7C15
    states = np.array([turn * step % 2**64 for turn in (1, 2, 3)], np.uint64)
    wanted = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert _mixed(states).tolist() == wanted


def test_equal_words_take_turns_in_their_order():
    words = np.array([5, 3, 5, 5, 3, 9], np.uint64)
    assert _turns(words).tolist() == [0, 0, 1, 2, 1, 0]
    assert _turns(words[:0]).tolist() == []


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_the_top_eigenpair_is_that_of_the_whole_matrix(seed, n, rank):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.T
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    found = top_eigenpair(lambda q: matrix @ q, start, 1e-10, 100)
    largest = float(torch.linalg.eigvalsh(matrix)[-1])
    assert found.value == pytest.approx(largest, rel=1e-9)
    assert float(torch.linalg.vector_norm(found.vector)) == pytest.approx(1)
    residual = matrix @ found.vector - found.value * found.vector
    assert float(torch.linalg.vector_norm(residual)) <= 1e-8 * largest
    assert 0 <= found.residual <= 1e-8
    assert 1 <= found.steps <= n


def test_it_stops_where_it_is_close_enough_and_where_it_may_take_no_more():
    matrix = torch.diag(torch.linspace(1, 2, 50, dtype=torch.float64))
    start = torch.ones(50, dtype=torch.float64)
    steps = [top_eigenpair(lambda q: matrix @ q, start, by, 50).steps for by in (1e-1, 1e-3, 1e-9)]
    assert steps == sorted(set(steps))
    assert steps[0] < 10 < steps[-1]
    assert top_eigenpair(lambda q: matrix @ q, start, 1e-9, 7).steps == 7


def test_a_matrix_that_is_zero_has_no_direction():
    start, zero = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    found = top_eigenpair(lambda q: 0 * q, start, 1e-6, 9)
    assert (found.value, found.residual, found.steps) == (0, 0, 1)
    assert torch.equal(found.vector, zero)
    found = top_eigenpair(lambda q: 0 * q, zero, 1e-6, 9)
    assert (found.value, found.residual, found.steps) == (0, 0, 0)
    assert torch.equal(found.vector, zero)


@pytest.mark.parametrize(
    ("weights", "median"),
    [
        ([1, 1], 10),  # half of the weight is reached by the lower of two
        ([1, 1, 1, 1], 20),
        ([1, 2, 3, 6], 30),
        ([0.1, 0.2, 0.3], 20),  # half, but for rounding
        ([1, 1, 3], 30),
        ([3, 1, 1], 10),
    ],
)
def test_the_weighted_median_is_the_lowest_value_that_half_of_the_weight_reaches(weights, median):
    rows = torch.arange(10, 10 * len(weights) + 1, 10)[:, None]
    told = torch.tensor(weights, dtype=torch.float64)[:, None]
    for turn in (torch.arange(len(weights)), torch.arange(len(weights)).flip(0)):
        assert _weighted_median(rows[turn], told[turn, 0]).tolist() == [median]


@pytest.mark.parametrize(("n", "f"), [(3, 1), (5, 2), (9, 3)])
def test_of_rows_that_are_all_the_same_the_first_are_closest_together(n, f):
    assert closest_together(np.zeros((n, n)), f).tolist() == list(range(n - f))


@pytest.mark.parametrize(("largest", "fits"), [(0.1249, False), (0.125, True), (0.4, True)])
def test_patches_need_a_pixel(largest, fits):
    told = PoisonPatches(smallest=0, largest=largest).misfit((1, 8, 16))
    assert (told is None) is fits
    assert fits or "largest of at least 0.125, a pixel of inputs of 8x16" in told


def test_the_cosine_with_a_row_that_is_zero_is_zero_also_its_own():
    rows = torch.tensor([[3.0, 4], [0, 0], [-6, -8], [4, -3]], dtype=torch.float64)
    wanted = [[1, 0, -1, 0], [0, 0, 0, 0], [-1, 0, 1, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(cosines(rows @ rows.T), torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_distance_to_a_sum_of_rows_is_never_undefined(scale):
    """Of copies the square is 0 but for rounding, on either side."""
    rows = torch.tensor([[0.1, 0.7]] * 3 + [[0.4, 0.3]], dtype=torch.float64) * scale
    point = torch.tensor([0.1, 0.2, 0.7, 0], dtype=torch.float64)
    found = distances_to(point, rows @ rows.T)
    wanted = torch.tensor([0, 0, 0, 0.5], dtype=torch.float64) * scale
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7 * scale)
    copies = torch.tensor([[1, 1 + 1e-15], [1 + 1e-15, 1]], dtype=torch.float64)
    assert distances_to(torch.eye(2).double()[0], copies).tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18])
def test_who_is_closest_together_does_not_depend_on_the_unit(scale):
    """Of a square and its centre all four-sets with the centre have one diameter."""
    at = np.array([[0.0, 0], [2, 0], [0, 2], [2, 2], [1, 1], [90, 0], [0, 90]])
    squared = ((at[:, None] - at) ** 2).sum(axis=2)
    assert closest_together(squared * scale, 3).tolist() == [0, 1, 2, 4]  # not 0, 1, 2, 3


# Pairs of opposite points of a circle: whoever is left out, a pair as far apart as any remains.
OPPOSITE = np.array([[4.0, 3], [-4, -3], [-3, 4], [3, -4], [-4, 3], [4, -3]])


@pytest.mark.parametrize(
    ("more", "wanted"), [([4.0, 3], [0, 2, 3, 5, 6]), ([0.0, 0], [0, 1, 2, 4, 6])]
)
@pytest.mark.parametrize("scale", [1.0, 1e8 / 3], ids=["exact", "rounded"])
def test_of_subsets_of_one_diameter_the_first_of_least_sum_is_taken(more, wanted, scale):
    """Where mda has the choice among all, sums that differ by rounding alone tie."""
    at = np.array([*OPPOSITE, more])
    squared = ((at[:, None] - at) ** 2).sum(axis=2)
    assert closest_together(squared * scale, 2).tolist() == wanted


@pytest.mark.parametrize("f", [1, 2, 5])
@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (TrimmedMean, lambda f: 2 * f + 1),
        (MDA, lambda f: 2 * f + 1),
        (Krum, lambda f: 2 * f + 3),
        (MultiKrum, lambda f: 2 * f + 3),
        (Bulyan, lambda f: 4 * f + 3),
    ],
)
def test_a_rule_plays_from_its_papers_bound_on(rule, least, f):
    made = rule(f=f)
    assert made.infeasible(least(f)) is None
    told = made.infeasible(least(f) - 1)
    assert told is not None
    assert str(least(f)) in told


class Switched(BaseModel):
    by: Literal["count", "share"] = "count"
    count: int = 3
    share: float = 0.1


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({}, ""),
        ({"count": 4}, ""),
        ({"by": "share", "share": 0.2}, ""),
        ({"by": "share"}, ""),
        ({"share": 0.2}, "share is read with by: share only, but by is count"),
        ({"by": "share", "count": 4}, "count is read with by: count only, but by is share"),
    ],
)
def test_only_a_field_that_was_changed_and_is_not_read_is_refused(fields, refused):
    def check():
        refuse_unused(Switched(**fields), "by", {"count": ("count",), "share": ("share",)})

    if refused:
        with pytest.raises(ValueError, match=refused):
            check()
    else:
        check()
