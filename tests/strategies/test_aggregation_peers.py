"""The rules against byzfl and flwr, and against float64 at the size of a ResNet-18."""

import aggregation_oracles as oracle
import numpy as np
import pytest
import torch

from strategies.aggregation.base import Context
from strategies.aggregation.bulyan import Bulyan, krum_order
from strategies.aggregation.centred_clipping import CentredClipping
from strategies.aggregation.geometric_median import GeometricMedian
from strategies.aggregation.krum import Krum
from strategies.aggregation.mda import MDA, closest_together
from strategies.aggregation.meamed import Meamed
from strategies.aggregation.median import Median
from strategies.aggregation.multi_krum import MultiKrum
from strategies.aggregation.parts.gram import gram, squared_distances
from strategies.aggregation.parts.selection import krum_scores, lowest
from strategies.aggregation.trimmed_mean import TrimmedMean
from strategies.aggregation.updates import Updates
from strategies.preaggregation.adaptive_clipping import AdaptiveClipping
from strategies.preaggregation.nearest_neighbour_mixing import NearestNeighbourMixing
from strategies.preaggregation.static_clipping import StaticClipping

SEEDS = range(40)


def rows_of(seed):
    draws = np.random.default_rng(seed)
    n, d = 11 + int(draws.integers(0, 8)), int(draws.choice([3, 20, 300]))
    rows = draws.standard_normal((n, d)) + draws.random(d)
    rows[: n // 5] *= 4
    return rows


def updates_of(rows):
    rows = torch.as_tensor(rows)
    return Updates(rows, torch.ones(len(rows)).double(), tuple(map(str, range(len(rows)))))


def answer(rule, rows):
    return rule.aggregate(updates_of(rows), {}, Context()).update.numpy()


def prepared(step, rows):
    after = step.prepare(updates_of(rows), Context())
    return after.some(torch.arange(after.width)).numpy()


@pytest.fixture(scope="module")
def byzfl():
    return pytest.importorskip("byzfl", reason="byzfl is not installed")


@pytest.mark.parametrize("seed", SEEDS)
def test_byzfl_agrees(byzfl, seed):
    rows, f = rows_of(seed), 2
    pairs = [
        (answer(Median(), rows), byzfl.Median()(rows.copy())),
        (answer(TrimmedMean(f=f), rows), byzfl.TrMean(f)(rows.copy())),
        (answer(Meamed(f=f), rows), byzfl.Meamed(f)(rows.copy())),
        # byzfl sums over n - f - 1 others, as Krum does with one malicious agent fewer.
        (answer(Krum(f=f - 1), rows), byzfl.Krum(f)(rows.copy())),
        (answer(MultiKrum(f=f - 1, m=len(rows) - f), rows), byzfl.MultiKrum(f)(rows.copy())),
        (
            answer(CentredClipping(radius=1.5, iterations=4), rows),
            byzfl.CenteredClipping(L=4, tau=1.5)(rows.copy()),
        ),
        (prepared(NearestNeighbourMixing(f=f), rows), byzfl.NNM(f)(rows.copy())),
        (prepared(StaticClipping(bound=2.5), rows), byzfl.Clipping(2.5)(rows.copy())),
        (prepared(AdaptiveClipping(f=f), rows), byzfl.ARC(f)(rows.copy())),
        (
            answer(GeometricMedian(iterations=3000, tolerance=0, smoothing=1e-9), rows),
            byzfl.GeometricMedian(nu=1e-9, T=3000)(rows.copy()),
        ),
    ]
    for at, (ours, theirs) in enumerate(pairs):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8, err_msg=str(at))


@pytest.mark.parametrize("seed", range(8))
def test_byzfl_finds_a_subset_of_the_same_diameter(byzfl, seed):
    """Which one of several is not defined; byzfl takes the first."""
    rows = rows_of(seed)[:11]
    squared = oracle.squared(rows)
    ours = closest_together(squared, 3)
    theirs = byzfl.MDA(3)(rows.copy())
    subsets = oracle.itertools.combinations(range(11), 8)
    (same,) = [s for s in map(list, subsets) if np.allclose(rows[s].mean(0), theirs)]
    assert squared[np.ix_(same, same)].max() == squared[np.ix_(ours, ours)].max()


def contents_of(rows):
    from flwr.app import ArrayRecord, RecordDict

    return [RecordDict({"arrays": ArrayRecord([row])}) for row in rows]


@pytest.mark.parametrize("seed", SEEDS)
def test_flwr_agrees_in_float64(seed):
    from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
    from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
    from flwr.serverapp.strategy.multikrum import select_multikrum

    rows, f = rows_of(seed), 2
    contents = contents_of(rows)
    for m in (1, 4, len(rows)):
        chosen = select_multikrum(contents, f, m)
        theirs = np.mean([content["arrays"].to_numpy_ndarrays()[0] for content in chosen], axis=0)
        np.testing.assert_allclose(answer(MultiKrum(f=f, m=m), rows), theirs, atol=1e-9)
    assert np.array_equal(
        answer(Krum(f=f), rows), rows[contents.index(select_multikrum(contents, f, 1)[0])]
    )
    trimmed = trim_mean(rows, (f + 0.5) / len(rows))
    np.testing.assert_allclose(answer(TrimmedMean(f=f), rows), trimmed, atol=1e-12)
    # flwr selects by one run of Krum; the second half of Bulyan is the same.
    picked = rows[np.sort(krum_order(oracle.squared(rows), f, len(rows) - 2 * f))]
    median = np.median(picked, axis=0)
    closest = aggregate_n_closest_weights([median], [[row] for row in picked], len(rows) - 4 * f)
    np.testing.assert_allclose(answer(Bulyan(f=f), rows), closest[0], atol=1e-12)


def test_flwr_loses_the_digits_that_ours_keeps():
    """D11, through flwr's own function on float32 models of norm 141."""
    from flwr.serverapp.strategy.multikrum import select_multikrum

    draws = np.random.default_rng(3)
    wrong = {"ours": 0, "flwr": 0}
    for _ in range(200):
        shared = draws.standard_normal(20_000)
        spread = 1e-4 * (1 + 0.01 * np.arange(8))[:, None]
        rows = (shared + spread * draws.standard_normal((8, 20_000))).astype(np.float32)
        best = int(np.argmin(krum_scores(oracle.squared(rows.astype(np.float64)), 2)))
        ours = Krum(f=2).aggregate(updates_of(rows), {}, Context())
        wrong["ours"] += int(ours.selected.nonzero()) != best
        contents = contents_of(rows)
        wrong["flwr"] += contents.index(select_multikrum(contents, 2, 1)[0]) != best
    assert wrong["ours"] == 0
    assert wrong["flwr"] > 100


RESNET_18 = 11_173_962


@pytest.fixture(scope="module", params=[0.01, 1.0])
def large(request):
    """Six updates of one norm around a common direction, float32."""
    draws = torch.Generator().manual_seed(7)
    rows = torch.randn(6, RESNET_18, generator=draws)
    rows += torch.randn(RESNET_18, generator=draws)
    rows *= request.param / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows[5] *= -30
    return updates_of(rows)


def test_at_the_size_of_a_resnet_the_distances_are_those_of_float64(large):
    updates, products, n = large, gram(large, 2**30), len(large)
    exact = np.zeros((n, n))
    for columns in updates.slices(2**30):
        rows = updates.matrix[:, columns].double()
        for at in range(n):
            exact[at] += (rows - rows[at]).square_().sum(dim=1).numpy()
    np.testing.assert_allclose(squared_distances(products, n), exact, rtol=1e-10)
    krum = Krum(f=1).aggregate(updates, {}, Context())
    best = lowest(krum_scores(exact, 1), 1)
    assert torch.equal(krum.update, updates.matrix[int(best[0])])


def test_at_the_size_of_a_resnet_rules_agree_with_float64(large):
    """On every thousandth coordinate, since float64 of all of them would be slow."""
    updates, some = large, torch.arange(0, RESNET_18, 1000)
    rows = updates.matrix[:, some].double().numpy()
    for rule, wanted in (
        (Median(), oracle.median(rows)),
        (TrimmedMean(f=1), oracle.trimmed_mean(rows, 1)),
        (MDA(f=1), rows[:5].mean(axis=0)),
    ):
        found = rule.aggregate(updates, {}, Context()).update[some].double().numpy()
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert error <= 1e-5, rule.kind


def test_at_the_size_of_a_resnet_the_geometric_median_is_where_all_pulls_cancel(large):
    """Each update pulls with force 1 towards itself."""
    z = GeometricMedian(iterations=1000).aggregate(large, {}, Context()).update
    pull, lengths = torch.zeros(RESNET_18, dtype=torch.float64), []
    for row in large.matrix:
        step = row.double() - z.double()
        lengths.append(float(torch.linalg.vector_norm(step)))
        pull += step / lengths[-1]
    assert float(torch.linalg.vector_norm(pull)) < 1e-5 * len(lengths)
