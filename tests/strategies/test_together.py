"""Plays of many defenders advance together and get their own models back."""

import numpy as np
import pytest

from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Training
from strategies.together import play_together


def pool(rows: int) -> Pool:
    block = Block(DEFENDER, 0, np.zeros((rows, 1, 2, 2), np.float32), np.zeros(rows, np.int64))
    return Pool((block,), 2)


def play(rows: list[int]):
    got = []
    for count in rows:
        models = yield [Training(pool(count)), Training(pool(count + 1))]
        got.append(models)
    return got


def test_each_play_is_sent_its_own_models_in_order_and_stages_are_shared():
    calls = []

    def train(requests):
        calls.append([len(r.pool) for r in requests])
        return [f"model of {len(r.pool)}" for r in requests]

    done = play_together({"a": play([2]), "b": play([5, 7]), "c": play([])}, train)
    assert done == {
        "a": [["model of 2", "model of 3"]],
        "b": [["model of 5", "model of 6"], ["model of 7", "model of 8"]],
        "c": [],
    }
    assert list(done) == ["a", "b", "c"]
    assert calls == [[2, 3, 5, 6], [7, 8]]


def test_an_error_in_a_play_is_not_swallowed():
    def broken():
        yield [Training(pool(2))]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        play_together({"x": broken()}, lambda requests: [None])


def test_a_play_may_go_on_with_its_own_list_of_requests():
    def growing():
        requests = [Training(pool(2))]
        yield requests
        requests += [Training(pool(9)), Training(pool(9))]
        return "grown"

    def train(requests):
        return [len(r.pool) for r in requests]

    done = play_together({"a": growing(), "b": play([5])}, train)
    assert done == {"a": "grown", "b": [[5, 6]]}
