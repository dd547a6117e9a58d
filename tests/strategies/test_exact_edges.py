"""Values at which a rule's arithmetic turns, by hand."""

import numpy as np
import torch

from strategies.aggregation.base import Context
from strategies.aggregation.multi_krum import MultiKrum
from strategies.aggregation.parts.gram import levelled
from strategies.aggregation.updates import Updates


def test_neighbours_that_differ_by_just_the_rounding_are_equal():
    values, rounding = np.array([1.0, 1.5, 3.0]), np.array([0.5, 0.5, 0.5])
    assert levelled(values, rounding).tolist() == [1.0, 1.0, 3.0]
    assert levelled(values, rounding / 1.01).tolist() == values.tolist()


def made(rows, weights):
    names = tuple(f"a{k}" for k in range(len(rows)))
    return Updates(torch.tensor(rows), torch.tensor(weights, dtype=torch.float64), names)


def test_registered_weights_become_shares_of_one():
    assert made([[0.0], [1.0], [2.0]], [1.0, 3.0, 4.0]).shares.tolist() == [0.125, 0.375, 0.5]


def test_multi_krum_takes_all_but_f_where_nothing_else_is_asked():
    updates = made([[0.0], [0.1], [0.2], [0.3], [0.4], [9.0]], [1.0] * 6)
    answer = MultiKrum(f=1).apply(updates, {}, Context())
    assert answer.selected.tolist() == [True] * 5 + [False]
