"""The control games' pools, and the seal: the attacked game's pool leads to nothing clean."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType

import numpy as np
import pytest

from learning.pool import DEFENDER, Block, Pool
from server.referee.sealed import RunTimeSet, Sealed, Truth, Worlds, alone, attacker_free

SHAPE = (1, 2, 2)


def rows(start, count):
    return np.arange(start, start + count, dtype=np.float32)[:, None, None, None] + np.zeros(
        (1, *SHAPE), np.float32
    )


def game(agents=3, count=4, cheats=("a0", "a1")):
    """Return a pool whose attackers poisoned every other row, and the truth: pixel = 1000s."""
    blocks, truth, run_time, at = [Block(DEFENDER, 0, rows(0, 3), np.zeros(3, np.int64))], {}, {}, 3
    for k in range(agents):
        name = f"a{k}"
        clean_x, clean_y = rows(1000 + at, count), np.arange(count, dtype=np.int64) % 3
        poisoned = (np.arange(count) % 2 == 0) & (name in cheats)
        x, y = clean_x.copy(), clean_y.copy()
        x[poisoned], y[poisoned] = -1, 9
        blocks.append(Block(name, at, x, y))
        truth[name] = Truth(poisoned, clean_x[poisoned], clean_y[poisoned])
        run_time[name] = RunTimeSet(
            name,
            rows(5000 + at, 2),
            np.zeros(2, np.int64),
            rows(7000 + at, 2),
            np.ones(2, np.int64),
        )
        at += count
    pool = Pool(tuple(blocks), 10)
    return pool, Sealed(run_time, truth, rows(9000, 5), np.zeros(5, np.int64))


def test_attacker_free_restores_every_poisoned_row_in_its_place():
    pool, sealed = game()
    free = attacker_free(pool, sealed)
    assert free.ids.tolist() == pool.ids.tolist()
    assert free.x[3:, 0, 0, 0].tolist() == [1000 + k for k in range(3, 15)]
    assert free.y[3:].tolist() == [0, 1, 2, 0] * 3
    assert (pool.x[3:, 0, 0, 0] == -1).sum() == 4  # the attacked pool is left alone


def test_alone_leaves_one_attacker_poisoned():
    pool, sealed = game()
    only = alone(pool, sealed, "a1")
    assert only.block("a1") is pool.block("a1")
    assert (only.y == 9).tolist() == [False] * 7 + [True, False, True, False] + [False] * 4
    assert only.ids.tolist() == pool.ids.tolist()


def test_worlds_share_blocks_by_identity():
    pool, sealed = game()
    worlds = Worlds.build(pool, sealed.truth)
    free, zero, one = worlds.attacker_free(), worlds.alone("a0"), worlds.alone("a1")
    assert free.block("a2") is pool.block("a2")
    assert free.block(DEFENDER) is pool.block(DEFENDER)
    assert zero.block("a1") is free.block("a1")
    assert one.block("a0") is free.block("a0")
    blocks = {id(b) for world in (pool, free, zero, one) for b in world.blocks}
    assert len(blocks) == 4 + 2  # each attacker has two


def test_a_world_like_the_attacked_one_is_the_attacked_one():
    pool, sealed = game(cheats=())
    assert attacker_free(pool, sealed) is pool
    pool, sealed = game(cheats=("a1",))
    assert alone(pool, sealed, "a1") is pool
    assert attacker_free(pool, sealed) is not pool


def test_agents_without_truth_or_without_block_do_not_disturb():
    pool, sealed = game()
    truth = {name: own for name, own in sealed.truth.items() if name != "a1"}
    free = Worlds.build(pool.without_owner("a0"), truth).attacker_free()
    assert free.block("a1") is pool.block("a1")
    assert free.owners == (DEFENDER, "a1", "a2")


def test_a_thousand_agents_in_a_thousand_worlds_share_their_blocks():
    names = tuple(f"a{k}" for k in range(1000))
    pool, sealed = game(1000, 2, cheats=names)
    worlds = Worlds.build(pool, sealed.truth)
    pools = [worlds.alone(name) for name in names[::10]]
    assert len({id(block) for world in pools for block in world.blocks}) <= 2 * 1000 + 1


@pytest.mark.parametrize("told", [[0, 0], [1, 0], [-1, 0], [0, 3], [0, 1, 2], [2**62, -(2**62)]])
def test_rows_that_are_no_ascending_positions_are_refused(told):
    labels = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match=r"expected .*'a'"):
        RunTimeSet("a", rows(0, 3), labels, rows(0, 2), labels[:2], run_rows=np.array(told))


def test_triggered_inputs_may_be_of_some_rows():
    x, y, targets = rows(0, 3), np.array([4, 5, 6]), np.array([5, 5])
    own = RunTimeSet("a", x, y, x[1:], targets, run_rows=np.array([1, 2]))
    assert own.y_triggered.tolist() == [5, 6]
    assert own.counted.tolist() == [False, True]
    assert own.unchanged
    assert not RunTimeSet("a", x, y, x + 1, y).unchanged


def test_mismatched_truth_is_refused_in_one_line():
    pool, sealed = game()
    short = Truth(np.array([True]), rows(0, 1), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="expected the truth about 4 rows of 'a0', got 1"):
        Worlds.build(pool, {**sealed.truth, "a0": short})
    with pytest.raises(ValueError, match="clean version of each of 1 poisoned rows"):
        Truth(np.array([True]), rows(0, 2), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="one triggered version of each or none"):
        RunTimeSet("a", rows(0, 3), np.zeros(3, np.int64), rows(0, 2), np.zeros(2, np.int64))


def reachable(root):
    """Return all objects that can be reached from `root`, not going through code."""
    seen, todo = {}, [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type | ModuleType | FunctionType):
            continue
        seen[id(item)] = item
        todo += gc.get_referents(item)
        if isinstance(item, np.ndarray) and item.base is not None:
            todo.append(item.base)
    return list(seen.values())


def leaks(pool, sealed):
    """Return whether an array that `pool` leads to shares memory or values with sealed data."""
    secret = [sealed.test_x]
    for own in sealed.run_time.values():
        secret += [own.x, own.x_triggered]
    secret += [own.clean_x for own in sealed.truth.values() if len(own.clean_x)]
    values = np.unique(np.concatenate([part.ravel() for part in secret]))
    found = [item for item in reachable(pool) if isinstance(item, np.ndarray)]
    assert found, "the walk must at least find the pool's own rows"
    return any(
        np.isin(values, item).any() or any(np.shares_memory(item, part) for part in secret)
        for item in found
        if item.dtype == np.float32
    )


def test_nothing_reachable_from_the_attacked_pool_holds_clean_rows_or_run_time_sets():
    pool, sealed = game()
    worlds = Worlds.build(pool, sealed.truth)
    controls = [worlds.attacker_free(), worlds.alone("a0")]
    assert pool.x.size  # caches are filled, as after a game
    assert not leaks(pool, sealed)
    assert all(leaks(control, sealed) for control in controls), "the test would see a leak"
