"""A pool's rows, against the definition worked out row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.pool import Block, Pool


@st.composite
def pools(draw):
    blocks, first = [], 0
    for owner in range(draw(st.integers(0, 5))):
        first += draw(st.integers(0, 4))
        rows = draw(st.integers(0, 6))
        x = np.arange(first, first + rows, dtype=np.float32)[:, None, None, None]
        blocks.append(Block(f"o{owner}", first, x, np.arange(rows, dtype=np.int64) % 3))
        first += rows
    ids = [int(i) for block in blocks for i in block.ids]
    gone = draw(st.sets(st.sampled_from(ids))) if ids else set()
    return Pool(tuple(blocks), 3), gone


def by_hand(pool, gone):
    return [
        (int(i), float(x), int(y), position)
        for position, block in enumerate(pool.blocks)
        for i, x, y in zip(block.ids, block.x[:, 0, 0, 0], block.y, strict=True)
        if int(i) not in gone
    ]


@settings(max_examples=150, deadline=None)
@given(pools(), st.integers(0, 4))
def test_rows_owners_and_counts(case, left_out):
    whole, gone = case
    for pool in (whole.without_rows(gone), whole.without_rows(gone).without_owner(f"o{left_out}")):
        wanted = by_hand(pool, gone)
        assert len(pool) == len(wanted)
        assert pool.ids.tolist() == [row[0] for row in wanted]
        assert pool.y.tolist() == [row[2] for row in wanted]
        assert pool.owner_index.tolist() == [row[3] for row in wanted]
        if pool.blocks:
            assert pool.x[:, 0, 0, 0].tolist() == [row[1] for row in wanted]
        assert (np.diff(pool.ids) > 0).all()


def test_removing_twice_is_an_error_and_ids_stay():
    block = Block("a", 7, np.zeros((3, 1, 1, 1), np.float32), np.zeros(3, np.int64))
    pool = Pool((block,), 1).without_rows([8])
    assert pool.ids.tolist() == [7, 9]
    assert pool.without_rows([9]).removed == (8, 9)
    with pytest.raises(ValueError, match=r"expected ids of the pool, got \[8\]"):
        pool.without_rows([8])
