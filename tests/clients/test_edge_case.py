"""The edge-case backdoor: which rows are the tail, and what becomes of agents without one."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from clients.data_attacks.base import AgentContext, Share
from clients.data_attacks.edge_case import EdgeCase

SEAT = AgentContext("m-1", "m", 0, 2, 5, 4)


def rows(*values: float) -> np.ndarray:
    """Return inputs of two pixels, (n, 1, 1, 2), of which the second is 0.5."""
    x = np.full((len(values), 1, 1, 2), 0.5, np.float32)
    x[:, 0, 0, 0] = values
    return x


def share(train, y_train, run, y_run) -> Share:
    labels = np.asarray(y_train, np.int64), np.asarray(y_run, np.int64)
    return Share(rows(*train), labels[0], rows(*run), labels[1])


def test_the_tail_is_what_lies_farthest_from_the_mean_of_the_class():
    # Class 2 has 0, 0.25, 0.25, 0.5, 1: mean 0.4, distances 0.4, 0.15, 0.15, 0.1, 0.6.
    train = [0.0, 0.9, 0.25, 0.25, 0.5, 1.0]
    given = share(train, [2, 1, 2, 2, 2, 2], [0.0, 0.1, 1.0, 0.75, 0.0], [2, 2, 2, 2, 0])
    play = EdgeCase(source=2, tail=0.4).play(given, SEAT)
    assert play.poisoned.tolist() == [True, False, False, False, False, True]
    assert play.y.tolist() == [3, 1, 2, 2, 2, 3]  # the class after the source
    assert np.array_equal(play.x, given.x_train)
    # At run time: as far as 0.4 and of the class; 0.1 and 0.75 are nearer, the last is no 2.
    assert play.run_rows.tolist() == [0, 2]
    assert np.array_equal(play.x_triggered, given.x_run[[0, 2]])
    assert play.targets.tolist() == [3, 3]
    assert (play.target, play.source) == (3, 2)


@pytest.mark.parametrize(
    ("tail", "rounding", "count"),
    [
        (0.2, "nearest", 2),
        (0.01, "nearest", 1),
        (0.11, "ceil", 2),
        (0.19, "floor", 1),
        (1, "nearest", 10),
    ],
)
def test_the_size_of_the_tail(tail, rounding, count):
    given = share(np.linspace(0, 1, 10), [0] * 10, [0.5], [0])
    seat = AgentContext("m-1", "m", 0, 2, 5, 4, rounding=rounding)
    play = EdgeCase(source=0, tail=tail).play(given, seat)
    assert play.poisoned.sum() == count


def test_the_whole_class_is_the_tail_of_share_one():
    given = share([0.1, 0.2, 0.9], [1, 1, 1], [0.4, 0.0], [1, 1])
    play = EdgeCase(source=1, tail=1, target=0).play(given, SEAT)
    assert play.poisoned.all()
    # The mean is 0.4 and the nearest row 0.2 away: a row at the mean itself is no tail.
    assert play.run_rows.tolist() == [1]


@pytest.mark.parametrize("labels", [[1, 1, 1], [2, 1, 1]])
def test_an_agent_without_a_tail_plays_honestly(labels):
    given = share([0.1, 0.2, 0.3], labels, [0.4, 0.9], [2, 2])
    play = EdgeCase(source=2).play(given, SEAT)
    assert not play.poisoned.any()
    assert np.array_equal(play.y, given.y_train)
    assert play.x_triggered.shape == (0, 1, 1, 2)
    assert len(play.run_rows) == len(play.targets) == 0


def test_a_run_time_set_without_a_tail_leaves_nothing_to_ask():
    given = share([0.0, 0.5, 0.5, 1.0], [2, 2, 2, 2], [0.5, 0.6], [2, 2])
    play = EdgeCase(source=2).play(given, SEAT)
    assert play.poisoned.sum() == 1
    assert len(play.x_triggered) == 0


def test_labels_are_checked():
    with pytest.raises(ValidationError, match="source other than the target label 1"):
        EdgeCase(source=1, target=1)
    with pytest.raises(ValidationError, match="source"):
        EdgeCase()
    given = share([0.0, 1.0], [0, 0], [0.5], [0])
    with pytest.raises(ValueError, match=r"^expected a label in 0\.\.3.*got 7"):
        EdgeCase(source=7).play(given, SEAT)
