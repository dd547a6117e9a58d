"""How a data set is dealt to defender, agents and referee."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import learning
from learning.data.base import DataError, DataSet, DataSource
from learning.data.digits import Digits
from learning.data.partition.base import Partition
from learning.data.partition.dirichlet import Dirichlet
from learning.data.partition.iid import IID
from learning.data.partition.sampled import Sampled
from learning.data.partition.shards import Shards
from learning.data.partitioning import (
    contributed_rows,
    deal,
    poison_count,
    reference_share,
    split_share,
)
from learning.data.rows import in_proportion
from learning.data.synthetic import Synthetic
from learning.pool import DEFENDER
from learning.seeds import numpy_generator

AGENTS = tuple(f"agent-{k}" for k in range(7))


class Numbered(DataSource):
    """Row k holds the pixel k / 1000, so that rows can be told apart."""

    kind: Literal["numbered"] = "numbered"
    rows: int = 200
    tests: int = 0
    classes: int = 4

    def load(self) -> DataSet:
        x = (np.arange(self.rows + self.tests, dtype=np.float32) / 1000).reshape(-1, 1, 1, 1)
        y = np.arange(len(x), dtype=np.int64) % self.classes
        names = tuple(map(str, range(self.classes)))
        return DataSet(x[: self.rows], y[: self.rows], x[self.rows :], y[self.rows :], names)


def dealt(source=None, **changes):
    settings = {
        "agents": AGENTS,
        "defender_share": 0.4,
        "partition": IID(),
        "run_time_share": 0.2,
        "seed": 0,
    }
    return deal(source or Numbered(), **(settings | changes))


def numbers(x):
    return np.rint(x[:, 0, 0, 0] * 1000).astype(int).tolist()


@pytest.mark.parametrize(
    "partition", [IID(equal=False), Shards(equal=False), Dirichlet(min_rows=2)], ids=repr
)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_every_row_goes_to_one_party(partition, share):
    table = dealt(partition=partition, defender_share=share)
    parties = [table.defender, *table.shares.values()]
    assert sorted(np.concatenate(parties).tolist()) == list(range(160))
    assert sorted(numbers(table.x) + numbers(table.test_x)) == list(range(200))
    assert len(table.defender) == round(share * 160)
    assert tuple(table.shares) == AGENTS


def test_equal_shares_by_default():
    table = dealt()  # 160 training rows, 64 for the defender, 96 for 7 agents
    assert {len(rows) for rows in table.shares.values()} == {13}


def test_labels_stay_with_their_images():
    table = dealt(Numbered(tests=60, merge=True, train_rows=120, test_rows=20))
    for x, y in ((table.x, table.y), (table.test_x, table.test_y)):
        assert [k % 4 for k in numbers(x)] == y.tolist()


def test_registered_ids_follow_the_defenders_rows():
    table = dealt()
    assert table.registered["agent-0"] == (64, 10)  # 13 rows: round(2.6) = 3 kept
    assert table.registered["agent-6"] == (64 + 6 * 10, 10)
    assert table.first_ids() == {DEFENDER: 0} | {name: 64 + 10 * k for k, name in enumerate(AGENTS)}


@pytest.mark.parametrize("partition", [IID(), Dirichlet(alpha=0.1, min_rows=2)], ids=repr)
def test_registered_rows_are_what_the_split_gives(partition):
    table = dealt(partition=partition)
    for agent, rows in table.shares.items():
        train, run = split_share(rows, 0.2, 0, agent)
        assert len(train) == table.registered[agent][1]
        assert sorted([*train, *run]) == rows.tolist()


def test_official_test_split_is_kept():
    table = dealt(Numbered(rows=200, tests=40))
    assert numbers(table.x) == list(range(200))
    assert numbers(table.test_x) == list(range(200, 240))


def test_merged_splits_are_drawn_anew():
    table = dealt(Numbered(rows=200, tests=40, merge=True, test_share=0.25))
    test = set(numbers(table.test_x))
    assert len(test) == 60
    assert test & set(range(200))
    assert test & set(range(200, 240))
    assert not test & set(numbers(table.x))


def test_nothing_is_copied_where_nothing_is_drawn():
    class Once(Numbered):
        kind: Literal["once"] = "once"

        def load(self):
            return DATA

    DATA = Numbered(tests=40).load()
    table = dealt(Once())
    assert table.x is DATA.x_train
    assert table.test_x is DATA.x_test


@pytest.mark.parametrize("rows", [1, 5, 40, 117, 160])
def test_subsets_keep_each_class_in_proportion(rows):
    source = Numbered(rows=160, tests=160)
    table = deal(
        source.model_copy(update={"train_rows": 160, "test_rows": rows}),
        agents=AGENTS,
        defender_share=0.4,
        partition=IID(),
        run_time_share=0.2,
        seed=0,
    )
    counts = np.bincount(table.test_y, minlength=4)
    assert len(table.test_y) == rows
    assert max(counts) - min(counts) <= 1


@given(
    y=st.lists(st.integers(0, 6), min_size=1, max_size=80).map(np.array),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_in_proportion_is_within_one_row_of_the_exact_quota(y, share, seed):
    rows = int(share * len(y))
    drawn = in_proportion(y, rows, numpy_generator(seed, "test"))
    assert len(set(drawn.tolist())) == rows
    exact = rows * np.bincount(y, minlength=7) / len(y)
    assert (abs(np.bincount(y[drawn], minlength=7) - exact) < 1).all()


def test_seeds_and_purposes_give_other_draws():
    first, second = dealt(seed=0), dealt(seed=1)
    assert not np.array_equal(first.defender, second.defender)
    assert not np.array_equal(numbers(first.test_x), numbers(second.test_x))
    rows = np.arange(50)
    assert split_share(rows, 0.2, 0, "a")[1].tolist() != split_share(rows, 0.2, 0, "b")[1].tolist()
    assert split_share(rows, 0.2, 0, "a")[1].tolist() == split_share(rows, 0.2, 0, "a")[1].tolist()


def test_the_share_of_an_agent_does_not_depend_on_its_name():
    other = deal(
        Numbered(),
        agents=[name.upper() for name in AGENTS],
        defender_share=0.4,
        partition=IID(),
        run_time_share=0.2,
        seed=0,
    )
    for mine, theirs in zip(dealt().shares.values(), other.shares.values(), strict=True):
        assert mine.tolist() == theirs.tolist()


@given(size=st.integers(2, 5000), share=st.floats(0.001, 0.999))
def test_each_agent_contributes_and_keeps_at_least_one_row(size, share):
    count = contributed_rows(size, share)
    assert 1 <= count <= size - 1
    kept = size - count
    assert abs(kept - share * size) <= 0.500001 or kept in (1, size - 1)


def test_eighty_twenty():
    assert contributed_rows(100, 0.2) == 80
    assert contributed_rows(2, 0.2) == 1
    assert contributed_rows(54, 0.2) == 43
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        contributed_rows(1, 0.2)


def test_too_few_rows_say_how_many_are_needed():
    expected = "7 agents need at least 14 rows .*, got 5.*200 training rows the defender holds 195"
    with pytest.raises(DataError, match=expected):
        dealt(Numbered(tests=1), defender_share=0.975)


@pytest.mark.parametrize("agents", [(), ("a", "a"), ("a", DEFENDER)])
def test_agents_need_different_names(agents):
    with pytest.raises(ValueError, match="expected agents with different names"):
        dealt(agents=agents)


@pytest.mark.parametrize(("field", "limit"), [("train_rows", 160), ("test_rows", 40)])
def test_more_rows_than_there_are(field, limit):
    with pytest.raises(DataError, match=f"expected {field} of at most {limit} .* got 161"):
        dealt(Numbered(**{field: 161}))


BROKEN = {
    "x float64": ({"x_train": np.zeros((8, 1, 2, 2))}, "float32"),
    "x flat": ({"x_train": np.zeros((8, 4), np.float32)}, "float32"),
    "no pixels": ({"x_train": np.zeros((8, 1, 0, 2), np.float32)}, "float32"),
    "test shape": ({"x_test": np.zeros((4, 1, 2, 3), np.float32)}, "x_test float32"),
    "x NaN": ({"x_train": np.full((8, 1, 2, 2), np.nan, np.float32)}, r"in \[0, 1\], got nan"),
    "x 255": ({"x_test": np.full((4, 1, 2, 2), 255, np.float32)}, r"x_test in \[0, 1\]"),
    "y int32": ({"y_train": np.zeros(8, np.int32)}, "y_train int64"),
    "y short": ({"y_train": np.zeros(7, np.int64)}, "y_train int64"),
    "y negative": ({"y_train": np.full(8, -1)}, r"y_train in 0\.\.1, got -1"),
    "y = classes": ({"y_test": np.full(4, 2)}, r"y_test in 0\.\.1, got 2"),
    "no rows": (
        {"x_train": np.zeros((0, 1, 2, 2), np.float32), "y_train": np.zeros(0, np.int64)},
        "expected training rows",
    ),
}


@pytest.mark.parametrize(("arrays", "message"), BROKEN.values(), ids=BROKEN)
def test_a_source_that_breaks_its_promise_is_found_out(arrays, message):
    class Broken(DataSource):
        kind: Literal["broken"] = "broken"

        def load(self):
            good = {
                "x_train": np.zeros((8, 1, 2, 2), np.float32),
                "y_train": np.zeros(8, np.int64),
                "x_test": np.zeros((4, 1, 2, 2), np.float32),
                "y_test": np.zeros(4, np.int64),
            }
            return DataSet(**(good | arrays), class_names=("a", "b"))

    with pytest.raises(DataError, match=message):
        dealt(Broken(), agents=("a",))


@pytest.mark.parametrize(
    "parts", [[[0, 1]], [[0, 1], [1, 2]], [[0, 1], [2]], [[0, 1], [2, 96]], [[-1, 1], [2, 3]]]
)
def test_a_partition_that_breaks_its_promise_is_found_out(parts):
    class Wrong(Partition):
        kind: Literal["wrong"] = "wrong"

        def split(self, y, agents, generator):
            return [np.array(part, np.int64) for part in parts]

    with pytest.raises(TypeError, match="Wrong must deal 2 disjoint shares"):
        dealt(partition=Wrong(), agents=("a", "b"))


def test_a_thousand_agents_on_digits():
    with pytest.raises(DataError, match="1000 agents need at least 2000 rows"):
        dealt(Digits(), agents=[str(k) for k in range(1000)])
    table = dealt(Digits(), agents=[str(k) for k in range(400)], defender_share=0.1)
    assert {rows for _, rows in table.registered.values()} == {2}
    agents = [str(k) for k in range(1000)]
    table = dealt(Digits(), agents=agents, partition=Sampled(rows=10))
    assert table.registered["999"] == (len(table.defender) + 999 * 8, 8)
    held = np.unique(np.concatenate(list(table.shares.values())))
    assert not np.isin(held, table.defender).any()


# S0 Table 5 (V_d, p, N) and the counts that it prints for 60,000 rows
@pytest.mark.parametrize(
    ("share", "rate", "agents", "exact"),
    [
        *[
            (0.1, p, 1000, c)
            for p, c in zip((0.1, 0.2, 0.4, 0.8, 1.0), (5.4, 10.8, 21.6, 43.2, 54), strict=True)
        ],
        (0.2, 0.55, 100, 264),
        (0.1, 0.55, 1000, 29.7),
        *[(0.5, k / 5, 100, 60 * k) for k in range(6)],
        (0.8, 0.55, 100, 66),
    ],
)
def test_poison_counts_of_s0(share, rate, agents, exact):
    rows = reference_share(60_000, share, agents)
    assert rate * rows == pytest.approx(exact, abs=1e-9)
    assert poison_count(rate, rows, rounding="floor") == int(exact)
    assert poison_count(rate, rows, rounding="ceil") == -int(-exact // 1)
    assert poison_count(rate, rows) == int(exact + 0.5)


def test_no_rounding_gives_all_counts_printed_for_e1():
    printed = [5, 11, 22, 44, 54]
    for rounding in ("nearest", "floor", "ceil"):
        counts = [
            poison_count(p, reference_share(60_000, 0.1, 1000), rounding=rounding)
            for p in (0.1, 0.2, 0.4, 0.8, 1.0)
        ]
        assert counts != printed
    assert [poison_count(p, 54) for p in (0.1, 0.2, 0.4, 0.8, 1.0)] == [5, 11, 22, 43, 54]


@given(
    percent=st.integers(0, 100), rows=st.integers(0, 10**6), agents=st.sampled_from([1, 3, 7, 900])
)
def test_poison_counts_agree_with_exact_arithmetic(percent, rows, agents):
    # (1 - 0.1) n / N at p percent, in whole numbers: 90 n p / (N 10,000)
    share = reference_share(rows, 0.1, agents)
    top, bottom = 90 * rows * percent, agents * 10_000
    assert poison_count(percent / 100, share, rounding="floor") == top // bottom
    assert poison_count(percent / 100, share, rounding="ceil") == -(-top // bottom)
    assert poison_count(percent / 100, share) == (2 * top + bottom) // (2 * bottom)


def test_unknown_rounding():
    with pytest.raises(ValueError, match="nearest, floor or ceil, got 'up'"):
        poison_count(0.1, 10, rounding="up")


SCRIPT = """
import hashlib, json
from learning.data.partitioning import deal, split_share
from learning.data.partition.dirichlet import Dirichlet
from learning.data.synthetic import Synthetic
table = deal(Synthetic(train_rows=90, merge=True), agents=["a", "b", "c"], defender_share=0.3,
             partition=Dirichlet(min_rows=2), run_time_share=0.2, seed=5)
split = [[s.tolist() for s in split_share(r, 0.2, 5, a)] for a, r in table.shares.items()]
print(json.dumps([hashlib.sha256(table.x.tobytes()).hexdigest(), table.defender.tolist(), split]))
"""


def test_a_deal_is_the_same_in_every_process():
    root = Path(learning.__file__).parents[1]
    outputs = []
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
        )
        outputs.append(json.loads(done.stdout))
    table = deal(
        Synthetic(train_rows=90, merge=True),
        agents=["a", "b", "c"],
        defender_share=0.3,
        partition=Dirichlet(min_rows=2),
        run_time_share=0.2,
        seed=5,
    )
    assert outputs[0] == outputs[1]
    assert outputs[0][:2] == [
        hashlib.sha256(table.x.tobytes()).hexdigest(),
        table.defender.tolist(),
    ]
