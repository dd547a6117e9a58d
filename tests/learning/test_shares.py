"""One rule turns shares into counts, and no module has another one."""

import ast
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.shares import apportioned, count_of, counts_of

ROOT = Path(__file__).parents[2]
EXACT = {"nearest": lambda x: floor(x + Fraction(1, 2)), "floor": floor, "ceil": ceil}

decimals = st.integers(0, 10**6).map(lambda k: (k / 10**6, Fraction(k, 10**6)))


@settings(max_examples=300, deadline=None)
@given(decimals, st.integers(0, 10**6), st.sampled_from(sorted(EXACT)))
def test_the_count_is_that_of_the_decimal_that_was_written(share, total, rounding):
    written, exact = share
    assert count_of(written, total, rounding=rounding) == EXACT[rounding](exact * total)


@pytest.mark.parametrize(
    ("share", "total", "nearest", "low", "high"),
    [
        (0.5, 5, 3, 2, 3),  # case participation-rounding: halves up, whatever the neighbour
        (0.5, 3, 2, 1, 2),
        (0.15, 10, 2, 1, 2),
        (0.29, 100, 29, 29, 29),  # 28.999999999999996
        (0.145, 100, 15, 14, 15),  # 14.499999999999998
        (0.55, 480, 264, 264, 264),  # 264.00000000000006
        (0.1 + 0.2, 10, 3, 3, 3),
        (1 - 0.9, 15, 2, 1, 2),  # 1.4999999999999996
        (1 - 0.9999, 5000, 1, 0, 1),  # cancellation leaves more noise
        (0.4999999, 1, 0, 0, 1),  # a share so near a half is none
        (0.2, 2.5, 1, 0, 1),
        (150.0, 3, 450, 450, 450),
        (0.0, 7, 0, 0, 0),
        (1.0, 7, 7, 7, 7),
    ],
)
def test_halves_go_up_and_binary_noise_decides_nothing(share, total, nearest, low, high):
    assert [count_of(share, total, rounding=r) for r in ("nearest", "floor", "ceil")] == [
        nearest,
        low,
        high,
    ]


@settings(max_examples=100, deadline=None)
@given(decimals, st.integers(0, 10**6))
def test_a_share_and_the_rest_of_it_miss_no_more_than_a_half(share, total):
    written, exact = share
    both = count_of(written, total) + count_of(1 - written, total)
    assert both - total == (1 if (exact * total).denominator == 2 else 0)


def test_many_shares_at_once_are_the_same_counts():
    shares = np.array([[0.0, 0.145], [0.29, 1.0]])
    assert counts_of(shares, 100).tolist() == [[0, 15], [29, 100]]
    assert counts_of(shares, 100).dtype == np.int64


@pytest.mark.parametrize("share", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_count(share):
    with pytest.raises(ValueError, match="expected a finite share"):
        count_of(share, 3)


def test_a_rule_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="nearest, floor or ceil, got 'even'"):
        count_of(0.5, 3, rounding="even")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.data())
def test_what_is_apportioned_is_all_there_in_proportion(sizes, data):
    total = data.draw(st.integers(0, sum(sizes)))
    got = apportioned(total, sizes)
    assert got.sum() == total
    for count, size in zip(got.tolist(), sizes, strict=True):
        quota = Fraction(total * size, max(1, sum(sizes)))
        assert floor(quota) <= count <= ceil(quota) <= size


def test_the_largest_remainders_get_what_is_left_and_equal_ones_in_order():
    assert apportioned(8, [2] * 20).tolist() == [1] * 8 + [0] * 12
    assert apportioned(10, [9, 6, 5]).tolist() == [5, 3, 2]  # quotas 4.5, 3, 2.5
    assert apportioned(11, [9, 6, 5]).tolist() == [5, 3, 3]  # 4.95, 3.3, 2.75
    assert apportioned(0, [0, 0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="expected a part for 3 things"):
        apportioned(3, [0, 0])


# What is rounded here is no share: bytes of a memory in GiB or MiB, and in these files
OTHERS = {
    "backfire/exporting/drawing.py": "the end of an axis",
    "backfire/terminal.py": "seconds and minutes that are left",
    "backfire/cli/progress.py": "tenths of a bar",
    "backfire/sweeps/progress.py": "seconds and minutes that are left",
    "backfire/sweeps/ray_crew.py": "processes on a machine",
    "backfire/trackers/mlflow.py": "milliseconds",
    "clients/update_attacks/parts/perturbation.py": "steps of a bisection",
    "learning/data/synthetic.py": "grey levels",
    "server/games/game.py": "seconds and percents of progress",
    "server/referee/scoring/detection.py": "decimals of a report",
    "strategies/aggregation/parts/buffers.py": "counters of BatchNorm",
    "strategies/aggregation/flame.py": "decimals of a distance",
    "strategies/filtering/parts/trimming.py": "a draw among tied classes",
    "strategies/hooks/poison_patches.py": "a draw among places",
}
EXEMPT = ("gib", "mib", "memory", "2 ** 20", "2 ** 30", "float", "play.round")
ROUNDS = {"round", "rint", "floor", "ceil", "trunc", "fix"}


def roundings(path):
    """Yield the lines where a number is rounded, or a product or quotient is cut to an integer."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        inside = (
            [*node.args, node.func.value] if isinstance(node.func, ast.Attribute) else node.args
        )
        scaled = any(
            isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult | ast.Div)
            for part in inside
        )
        if called == "round" and len(node.args) > 1:
            continue  # to so many decimals
        cut = called in ROUNDS or (scaled and called in {"int", "astype", "long"})
        if cut and not any(word in ast.unparse(node).lower() for word in EXEMPT):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_no_module_turns_a_share_into_a_count_by_itself():
    """A new line here is either a share, then use `learning.shares`, or a name for `OTHERS`."""
    folders = ("learning", "scenarios", "strategies", "clients", "server", "backfire")
    found = {}
    for path in (p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))):
        name = path.relative_to(ROOT).as_posix()
        drawn = name.startswith("backfire/reporting/")  # places in a picture
        if name not in OTHERS and name != "learning/shares.py" and not drawn:
            found[name] = list(roundings(path))
    assert {name: lines for name, lines in found.items() if lines} == {}
