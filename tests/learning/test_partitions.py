"""How rows are split among agents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.data.partition.base import Partition
from learning.data.partition.dirichlet import Dirichlet
from learning.data.partition.iid import IID
from learning.data.partition.quantity_skew import QuantitySkew
from learning.data.partition.sampled import Sampled
from learning.data.partition.shards import Shards
from learning.method import discover
from learning.seeds import numpy_generator

PARTITIONS = [
    IID(),
    IID(equal=False),
    Shards(shards=1),
    Shards(shards=3, equal=False),
    Dirichlet(alpha=0.05, min_rows=2),
    Dirichlet(alpha=0.001, min_rows=5),
    Dirichlet(alpha=100.0, min_rows=2),
    Sampled(rows=9),
    QuantitySkew(min_rows=2),
    QuantitySkew(alpha=0.001, min_rows=5),
    QuantitySkew(law="power", exponent=3.0, min_rows=4),
]
FOUND = discover(Partition, "learning.data.partition")
PARTITIONS += [
    FOUND[kind](**fields)
    for kind in sorted(FOUND.keys() - {one.kind for one in PARTITIONS})
    for fields in FOUND[kind].examples
]
LABELS = st.lists(st.integers(0, 4), min_size=30, max_size=200).map(
    lambda values: np.array(values, np.int64)
)


def rng(seed=0):
    return numpy_generator(seed, "test/partition")


@pytest.mark.parametrize("partition", PARTITIONS, ids=repr)
@given(y=LABELS, agents=st.integers(1, 6), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_shares_are_disjoint_ascending_and_replayable(partition, y, agents, seed):
    shares = partition.split(y, agents, rng(seed))
    again = partition.split(y, agents, rng(seed))
    assert len(shares) == agents
    assert [s.tolist() for s in shares] == [s.tolist() for s in again]
    assert all(s.dtype == np.int64 and len(s) >= 2 for s in shares)
    assert all((np.diff(s) > 0).all() for s in shares)
    dealt = np.concatenate(shares)
    assert len(set(dealt.tolist())) == len(dealt) or not partition.disjoint
    assert set(dealt.tolist()) <= set(range(len(y)))


@given(y=LABELS, agents=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_equal_shares_drop_only_the_remainder(y, agents):
    for partition, parts in ((IID(), agents), (Shards(shards=2), 2 * agents)):
        sizes = {len(share) for share in partition.split(y, agents, rng())}
        assert sizes == {len(y) // parts * (parts // agents)}


@given(y=LABELS, agents=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_without_equal_every_row_is_dealt(y, agents):
    for partition in (
        IID(equal=False),
        Shards(equal=False),
        Dirichlet(alpha=0.1, min_rows=3),
        QuantitySkew(alpha=0.1, min_rows=3),
        QuantitySkew(law="power", min_rows=3),
    ):
        dealt = np.concatenate(partition.split(y, agents, rng()))
        assert sorted(dealt.tolist()) == list(range(len(y)))
    sizes = [len(share) for share in IID(equal=False).split(y, agents, rng())]
    extra = len(y) % agents
    assert sizes == [len(y) // agents + (k < extra) for k in range(agents)]


def test_iid_drops_other_rows_with_another_generator():
    y = np.zeros(11, np.int64)
    left_out = {
        (set(range(11)) - set(np.concatenate(IID().split(y, 3, rng(seed))).tolist())).pop()
        for seed in range(40)
    }
    assert len(left_out) > 3


def test_shards_are_mcmahans_mnist_split():
    # 60,000 rows, 200 shards of 300, two for each of 100 clients; equal classes: none straddles
    y = np.tile(np.arange(10), 6000)
    shares = Shards().split(y, 100, rng())
    assert {len(share) for share in shares} == {600}
    kinds = [len(np.unique(y[share])) for share in shares]
    assert max(kinds) == 2
    assert sum(kind == 2 for kind in kinds) > 60  # two shards of one class: chance below 1/10
    assert set().union(*(np.unique(y[share]).tolist() for share in shares)) == set(range(10))


def test_each_agent_has_its_number_of_runs_of_the_sorted_rows():
    # With labels 0..n-1 the sorted order is the rows' own, so that a shard is a run of rows.
    shares = Shards(shards=3).split(np.arange(60), 4, rng())
    starts = sorted(int(share[k]) for share in shares for k in range(0, 15, 5))
    assert starts == list(range(0, 60, 5))
    assert all((np.diff(share.reshape(3, 5)) == 1).all() for share in shares)


def test_power_law_sizes_are_exact_and_dealt_to_drawn_ranks():
    # 1 + 1/2 + 1/3 + 1/4 = 25/12; each boundary is rounded, so a size is off by less than one
    y = np.zeros(2500, np.int64)
    sizes = [len(s) for s in QuantitySkew(law="power").split(y, 4, rng())]
    assert sorted(sizes) == [300, 400, 600, 1200]
    orders = {
        tuple(len(s) for s in QuantitySkew(law="power").split(y, 4, rng(seed)))
        for seed in range(20)
    }
    assert len(orders) > 5
    flat = QuantitySkew(law="power", exponent=0).split(y, 4, rng())
    assert [len(s) for s in flat] == [625] * 4


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_quantity_skew_sizes_have_the_moments_of_the_dirichlet_law(alpha):
    # an agent's share of all rows is Beta(alpha, alpha (N - 1)); draws are independent
    agents, draws, n = 5, 600, 2000
    y = np.zeros(n, np.int64)
    skew = QuantitySkew(alpha=alpha, min_rows=2)
    sizes = np.array([[len(s) for s in skew.split(y, agents, rng(k))] for k in range(draws)]) / n
    variance = (1 / agents) * (1 - 1 / agents) / (agents * alpha + 1)
    assert abs(sizes.mean(axis=0) - 1 / agents).max() < 5 * np.sqrt(variance / draws)
    assert sizes.var() == pytest.approx(variance, rel=0.15)


def test_quantity_skew_tops_up_the_poor_and_leaves_labels_iid():
    y = np.arange(4000, dtype=np.int64) % 4
    shares = QuantitySkew(alpha=0.001, min_rows=30).split(y, 20, rng())
    sizes = sorted(len(share) for share in shares)
    assert sizes[:19] == [30] * 19  # so small an alpha gives one agent nearly all
    assert sum(sizes) == 4000
    big = max(shares, key=len)
    counts = np.bincount(y[big], minlength=4)
    assert abs(counts - len(big) / 4).max() < 5 * np.sqrt(3430 * 0.25 * 0.75 * 570 / 4000)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_dirichlet_shares_have_the_moments_of_the_distribution(alpha):
    # the share of one agent in one class is Beta(alpha, alpha (N - 1))
    agents, classes, each = 5, 400, 500
    y = np.repeat(np.arange(classes), each)
    shares = Dirichlet(alpha=alpha, min_rows=2).split(y, agents, rng())
    portion = np.stack([np.bincount(y[s], minlength=classes) for s in shares]) / each
    mean, n = 1 / agents, agents * classes
    variance = mean * (1 - mean) / (agents * alpha + 1)
    np.testing.assert_allclose(portion.mean(axis=1), mean, atol=5 * np.sqrt(variance / n * agents))
    np.testing.assert_allclose(portion.var(), variance, rtol=0.15)


def test_dirichlet_tops_up_the_poor_from_the_rich():
    y = np.repeat(np.arange(2), 500)
    shares = Dirichlet(alpha=0.001, min_rows=30).split(y, 20, rng())
    sizes = sorted(len(share) for share in shares)
    # two classes go almost wholly to one agent each; the others can only have the floor
    assert sizes[:18] == [30] * 18
    assert sum(sizes) == 1000
    assert Dirichlet(alpha=0.001, min_rows=50).split(y, 20, rng())[0].size == 50


@pytest.mark.parametrize(
    ("partition", "needed"),
    [
        (IID(), 20),
        (Shards(shards=1), 20),
        (Shards(shards=4), 40),
        (Dirichlet(min_rows=7), 70),
        (Shards(), 20),
        (QuantitySkew(min_rows=7), 70),
        (QuantitySkew(law="power", min_rows=2), 20),
    ],
    ids=repr,
)
def test_too_few_rows_say_how_many_are_needed(partition, needed):
    y = np.zeros(needed, np.int64)
    assert len(partition.split(y, 10, rng())) == 10
    with pytest.raises(ValueError, match=f"10 agents need at least {needed} rows .*, got 19"):
        partition.split(y[:19], 10, rng())


def test_sampled_shares_are_independent_uniform_samples():
    y = np.zeros(40, np.int64)
    shares = Sampled(rows=10).split(y, 2000, rng())
    held = np.stack([np.isin(np.arange(40), share) for share in shares])
    assert (held.sum(axis=1) == 10).all()
    # each row is in a share with chance 1/4; two shares have 2.5 rows in common on average
    assert abs(held.mean(axis=0) - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)
    common = (held[::2] & held[1::2]).sum(axis=1)
    variance = 10 * 0.25 * 0.75 * 30 / 39  # hypergeometric
    assert common.mean() == pytest.approx(2.5, abs=5 * np.sqrt(variance / 1000))
    assert common.var() == pytest.approx(variance, rel=0.3)
    with pytest.raises(ValueError, match="needs at least 41 rows"):
        Sampled(rows=41).split(y, 2, rng())


def test_every_partition_of_the_folder_is_tested():
    kinds = {type(partition) for partition in PARTITIONS}
    assert kinds == set(FOUND.values())


def test_an_agents_share_looks_like_the_whole_under_iid():
    y = np.repeat(np.arange(4), 2500)
    counts = np.stack([np.bincount(y[s], minlength=4) for s in IID().split(y, 10, rng())])
    # hypergeometric: 1000 of 10000, 2500 of the class; sd = sqrt(1000 * .25 * .75 * .9) = 13
    assert abs(counts - 250).max() < 5 * 13
    assert counts.std() > 5  # not stratified
