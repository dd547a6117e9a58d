"""What all rules stand on: reading in chunks, distances that keep their digits, selection."""

import itertools

import aggregation_oracles as oracle
import numpy as np
import pytest
import torch

from strategies.aggregation.base import Context
from strategies.aggregation.krum import Krum
from strategies.aggregation.multi_krum import MultiKrum
from strategies.aggregation.parts.gram import (
    about_origin,
    combine,
    gram,
    norms,
    squared_distances,
    with_gram,
)
from strategies.aggregation.parts.selection import krum_scores, lowest
from strategies.aggregation.parts.sorting import mean_around_median, middle, network, ranked
from strategies.aggregation.updates import Updates

LIMIT = 2**30


def updates_of(rows, weights=None, **more):
    rows = torch.as_tensor(np.asarray(rows))
    count = len(more["mixing"]) if "mixing" in more else len(more.get("taken", rows))
    weights = torch.ones(count, dtype=torch.float64) if weights is None else weights
    return Updates(rows, weights, tuple(f"agent {at}" for at in range(count)), **more)


@pytest.mark.parametrize("n", range(1, 14))
def test_the_network_sorts_all_rows_of_zeros_and_ones(n):
    """The 0-1 principle: a network that sorts those sorts everything."""
    block = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n))).T.contiguous()
    wanted = np.sort(block.numpy(), axis=0)
    for first in range(n):
        for ranks in {
            range(first, n),
            range(first, first + 1),
            range(first, max(first, n - first)),
        }:
            if len(ranks):
                found = ranked(block.clone(), ranks, network(n, ranks))
                assert np.array_equal(torch.stack(found), wanted[ranks.start : ranks.stop])


@pytest.mark.parametrize("n", [31, 50, 64, 137])
def test_the_network_sorts_many_rows(n):
    block = torch.from_numpy(np.random.default_rng(n).standard_normal((n, 300)))
    found = ranked(block.clone(), range(n), network(n, range(n)))
    assert np.array_equal(torch.stack(found), np.sort(block.numpy(), axis=0))
    assert len(network(n, middle(n))) < len(network(n, range(n)))


def test_mean_around_median_is_that_of_the_closest_values():
    draws = np.random.default_rng(0)
    for n, keep in [(1, 1), (2, 1), (5, 3), (8, 5), (9, 9), (12, 7)]:
        block = draws.standard_normal((n, 200)).astype(np.float32)
        found = mean_around_median(list(torch.from_numpy(np.sort(block, axis=0))), keep)
        np.testing.assert_allclose(found, oracle.mean_around_median(block.astype(float), keep))


def test_of_values_that_tie_around_the_median_either_side_fills_half_of_the_places():
    ordered = [torch.tensor([value]) for value in (-3.0, -1.0, 0.0, 1.0, 3.0)]
    assert mean_around_median(ordered, 2).item() == 0.0
    assert mean_around_median(ordered, 4).item() == 0.0


def test_krum_of_the_check_values():
    rows = np.array([(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5), (10, 10), (-9, 12)], np.float32)
    given = updates_of(rows)
    scores = krum_scores(squared_distances(gram(given, LIMIT), 7), 2)
    assert scores.tolist() == [2.5, 2.5, 2.5, 2.5, 1.5, 523.5, 645.5]
    assert lowest(scores, 3).tolist() == [4, 0, 1]
    best = Krum(f=2).aggregate(given, {}, Context())
    assert best.selected.tolist() == [False] * 4 + [True] + [False] * 2
    three = MultiKrum(f=2, m=3).aggregate(given, {}, Context())
    assert three.selected.tolist() == [True, True, False, False, True, False, False]
    torch.testing.assert_close(three.update, torch.tensor([0.5, 1 / 6]))


def naive_float32(rows):
    """Squared distances as flwr takes them."""
    squares = (rows**2).sum(axis=1)
    return squares[:, None] + squares - 2 * rows @ rows.T


def best_of(squared):
    return int(lowest(krum_scores(squared, 2), 1)[0])


def test_krum_keeps_its_digits_where_models_are_far_larger_than_their_differences():
    """D11: whole models of norm 141 that differ by 1e-4 in each coordinate."""
    draws = np.random.default_rng(11)
    wrong = {"ours": 0, "float32": 0}
    for _ in range(200):
        shared = draws.standard_normal(20_000)
        spread = 1e-4 * (1 + 0.01 * np.arange(8))[:, None]
        rows = (shared + spread * draws.standard_normal((8, 20_000))).astype(np.float32)
        exact = oracle.squared(rows.astype(np.float64))
        best = best_of(exact)
        found = squared_distances(gram(updates_of(rows), LIMIT), 8)
        np.testing.assert_allclose(found, exact, rtol=1e-9)
        wrong["ours"] += int(best_of(found) != best)
        float32 = naive_float32(rows).astype(np.float64)
        wrong["float32"] += int(best_of(float32) != best)
    assert wrong["ours"] == 0
    assert wrong["float32"] > 100


@pytest.mark.parametrize("size", [1e6, 1e12, 1e30])
def test_huge_rows_do_not_cost_the_others_their_digits(size):
    draws = np.random.default_rng(12)
    rows = draws.standard_normal((11, 400)).astype(np.float32)
    rows[[2, 5, 6, 10]] *= np.float32(size)
    honest = np.delete(np.arange(11), [2, 5, 6, 10])
    found = squared_distances(gram(updates_of(rows), LIMIT), 11)
    exact = oracle.squared(rows.astype(np.float64))
    np.testing.assert_allclose(
        found[np.ix_(honest, honest)], exact[np.ix_(honest, honest)], rtol=1e-11
    )
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-9 * size**2)


def some_mixing(draws, rows, count):
    mixing = draws.random((rows, count))
    return torch.from_numpy(mixing / mixing.sum(axis=1, keepdims=True) * draws.random((rows, 1)))


def test_mixed_rows_are_never_made_and_yet_measured_and_summed_exactly():
    draws = np.random.default_rng(13)
    rows, extra = draws.standard_normal((9, 40)), draws.standard_normal((2, 40))
    taken, mixing = torch.tensor([0, 2, 3, 5, 8]), some_mixing(draws, 4, 5)
    given = updates_of(rows, taken=taken, mixing=mixing)
    made = mixing.numpy() @ rows[taken]
    points = np.concatenate([made, np.zeros((1, 40)), extra])
    found = gram(given, LIMIT, torch.from_numpy(extra))
    np.testing.assert_allclose(squared_distances(found, 7), oracle.squared(points), atol=1e-12)
    np.testing.assert_allclose(about_origin(given, LIMIT), made @ made.T, atol=1e-12)
    for known in (given, with_gram(given, LIMIT)):
        np.testing.assert_allclose(norms(known, LIMIT), np.linalg.norm(made, axis=1))
    factors = torch.from_numpy(draws.random(4))
    np.testing.assert_allclose(combine(given, factors, LIMIT), factors.numpy() @ made, atol=1e-14)
    for memory in (LIMIT, 24 * 9 * 7):
        parts = [block.clone() for _, block in given.chunks(memory)]
        np.testing.assert_allclose(torch.cat(parts, dim=1), made, atol=1e-14)
    picked = torch.tensor([1, 30, 7])
    np.testing.assert_allclose(given.some(picked), made[:, picked], atol=1e-14)


def test_leaving_agents_out_keeps_rows_weights_names_and_products_together():
    draws = np.random.default_rng(14)
    rows, weights = draws.standard_normal((6, 20)), torch.from_numpy(draws.random(6))
    given = Updates(torch.from_numpy(rows), weights, tuple("abcdef"), 4)
    known = Updates(given.matrix, weights, given.agents, 4, gram=gram(given, LIMIT))
    for start in (given, known):
        fewer = start.without(["b"]).without(["e", "a"])
        assert fewer.agents == ("c", "d", "f")
        assert fewer.round == 4
        assert fewer.matrix is given.matrix
        assert torch.equal(fewer.weights, weights[[2, 3, 5]])
        assert np.array_equal(fewer.some(torch.arange(20)), rows[[2, 3, 5]])
        found = squared_distances(gram(fewer, LIMIT), 3)
        np.testing.assert_allclose(found, oracle.squared(rows[[2, 3, 5]]), atol=1e-12)
    mixed = given.mixed(some_mixing(draws, 3, 6), ("x", "y", "z"), torch.ones(3).double())
    whole = mixed.some(torch.arange(20))
    assert torch.equal(mixed.without(["y"]).some(torch.arange(20)), whole[[0, 2]])


def test_chunks_are_copies_that_rules_may_overwrite():
    rows = np.random.default_rng(15).standard_normal((3, 10))
    given = updates_of(rows.copy())
    for source in (given, given.without(["agent 1"]), given.mixed(torch.eye(3).double())):
        for _, block in source.chunks(LIMIT):
            block.zero_()
        source.some(torch.arange(10)).zero_()
    assert np.array_equal(given.matrix, rows)


def test_chunks_fit_the_memory_that_they_are_given():
    given = updates_of(np.zeros((10, 50_000), np.float32))
    for memory in (1, 480, 48_000, LIMIT):
        widths = [part.stop - part.start for part in given.slices(memory)]
        assert sum(widths) == 50_000
        assert max(widths) == 1 or max(widths) * 20 * 24 <= memory


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"matrix": torch.zeros(3)}, "matrix"),
        ({"matrix": torch.zeros(2, 3, dtype=torch.float16)}, "float16"),
        ({"matrix": torch.zeros(0, 3)}, "0 rows"),
        ({"weights": torch.ones(3)}, "weights of shape"),
        ({"weights": torch.tensor([1.0, -1.0])}, ">= 0"),
        ({"weights": torch.tensor([1.0, float("nan")])}, ">= 0"),
        ({"weights": torch.zeros(2)}, "not all 0"),
        ({"agents": ("a",)}, "1 agents"),
        ({"agents": ("a", "a")}, "once"),
    ],
)
def test_updates_that_do_not_fit_together_are_refused(fields, word):
    good = {"matrix": torch.zeros(2, 3), "weights": torch.ones(2), "agents": ("a", "b")}
    Updates(**good)
    with pytest.raises(ValueError, match=word):
        Updates(**(good | fields))


def test_only_agents_that_are_there_can_be_left_out():
    given = updates_of(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="nobody"):
        given.without(["nobody"])
    with pytest.raises(ValueError, match="a row"):
        given.without(given.agents)


def test_more_rows_than_a_band_holds():
    rows = np.random.default_rng(16).standard_normal((600, 7))
    given = updates_of(rows)
    found = gram(given, LIMIT)
    assert torch.equal(found, found.T)
    exact = ((rows[:, None] - rows) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(found, 600), exact, atol=1e-12)
    np.testing.assert_allclose(about_origin(given, LIMIT), rows @ rows.T, atol=1e-12)
