"""What filters and rules stand on, against numbers that others have published or defined."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.aggregation.base import GIBIBYTE
from strategies.filtering.gradients import GIB
from strategies.filtering.lanczos import top_eigenpair
from strategies.filtering.row_draws import _mixed, _turns


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
