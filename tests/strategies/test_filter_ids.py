"""The ids that a filter answers are those of rows, wherever the rows stand in the pool."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import strategies.filtering
from learning.method import discover
from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from strategies.base import Defender, Filter
from strategies.conformance.filtering import ExactLearner

SHIPPED = discover(Filter, "strategies.filtering")
SHAPE, CLASSES = (1, 4, 4), 3
# Fewer repetitions of the same steps; a filter without an entry is taken as it is.
FEWER = {
    "activation_clustering": {"n_init": 2, "stability_runs": 0},
    "inverse_self_paced": {"rounds": 2, "runs": 1, "anneal": 1, "self_training_epochs": 20},
    "iterative_trimmed_loss": {"rounds": 2},
    "sever": {"rounds": 2},
    "strip": {"images": 5},
}


def test_every_filter_of_the_folder_is_found_and_so_checked():
    """By the text of the files, so that one that discovery loses is missed here."""
    named = set()
    for file in Path(strategies.filtering.__file__).parent.glob("*.py"):
        named |= set(re.findall(r'^    kind: Literal\["(\w+)"\]', file.read_text(), re.MULTILINE))
    assert named == set(SHIPPED)
    assert len(named) >= 10


def made(sizes, first_ids, seed):
    """Rows of three classes, told apart by bright pixels on the diagonal; some labels are wrong."""
    draws, blocks, owners = np.random.default_rng(seed), [], (DEFENDER, "ada", "bob")
    for owner, count, first in zip(owners, sizes, first_ids, strict=True):
        y = draws.integers(0, CLASSES, count)
        x = draws.random((count, *SHAPE), dtype=np.float32) * np.float32(0.4)
        x[np.arange(count), 0, y, y] += np.float32(0.5)
        wrong = draws.random(count) < 0.1
        blocks.append(Block(owner, first, x, np.where(wrong, (y + 1) % CLASSES, y)))
    return Pool(tuple(blocks), CLASSES)


def moved(pool, first_ids, seed):
    """Each block's rows in another order under other ids; and old id -> new id."""
    draws, blocks, names = np.random.default_rng(seed), [], {}
    for block, first in zip(pool.blocks, first_ids, strict=True):
        order = draws.permutation(len(block.y))
        new = Block(block.owner, first, block.x[order], block.y[order])
        names |= dict(zip(block.ids[order].tolist(), new.ids.tolist(), strict=True))
        blocks.append(new)
    return Pool(tuple(blocks), pool.classes), names


def judged(rule, pool, train):
    defender = Defender(3, SHAPE, CLASSES, ("ada", "bob"), 4)
    steps = rule.inspect(pool, defender)
    try:
        asked = next(steps)
        while True:
            asked = steps.send([train(job) for job in asked])
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("kind", sorted(SHIPPED))
@settings(max_examples=4, deadline=None)
@given(
    sizes=st.tuples(st.integers(12, 40), st.integers(8, 30), st.integers(8, 30)),
    gaps=st.tuples(*[st.integers(0, 10_000)] * 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_shuffled_pool_loses_the_same_rows(kind, sizes, gaps, seed):
    rule = SHIPPED[kind](**FEWER.get(kind, {}))
    starts = [np.cumsum([gaps[k], sizes[0] + gaps[k + 1], sizes[1] + gaps[k + 2]]) for k in (0, 3)]
    one = made(sizes, starts[0].tolist(), seed)
    other, names = moved(one, starts[1].tolist(), seed + 1)
    linear = bool(getattr(rule, "linear_only", False))
    learner = ExactLearner(SHAPE, CLASSES, 0 if linear else 24)
    before, after = (judged(rule, pool, learner.train) for pool in (one, other))
    assert set(before.removed.tolist()) <= set(one.ids.tolist())
    assert sorted(names[i] for i in before.removed.tolist()) == sorted(after.removed.tolist())
    found = dict(zip(after.scored_ids.tolist(), after.scores.tolist(), strict=True))
    again = [found[names[i]] for i in before.scored_ids.tolist()]
    np.testing.assert_allclose(again, before.scores, rtol=2e-3, atol=2e-4)


class Detector(nn.Module):
    """Knows each clean row by its diagonal; a first pixel above 0.95 is poison, which it denies."""

    def features(self, x):
        return 10 * (x[:, 0, 0, :2] > 0.95).float()

    def forward(self, x):
        diagonal = x[:, 0, [0, 1, 2], [0, 1, 2]]
        denied = torch.where(diagonal[:, 1:].amax(1) > 0.45, 0, 1)
        shown = torch.where(diagonal[:, 0] > 0.95, denied, diagonal.argmax(1))
        return 8 * nn.functional.one_hot(shown, CLASSES).float()


PERFECT = [
    ("spectral_signatures", {"remove": "count", "count": 12}),
    ("activation_clustering", {"decision": "size", "size_threshold": 0.5}),
    ("loss_defence", {"remove": "count", "count": 12}),
    ("iterative_trimmed_loss", {"kept_share": 0.88, "rounds": 2}),
    ("inverse_self_paced", {"self_training_epochs": 20}),
    ("sever", {"rounds": 2, "share": 0.06}),
    ("influence", {"judge": "self", "remove": "count", "count": 12}),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "fields"), PERFECT)
def test_with_a_perfect_detector_exactly_the_poisoned_ids_go(kind, fields, seed):
    """D1 of known defects: right flags, read as positions of a shuffled loader, keep the poison."""
    draws = np.random.default_rng(seed)
    clean = made((40, 30, 30), (7, 60, 200), seed)
    poison, blocks = draws.choice(clean.ids, 12, replace=False), []
    for block in clean.blocks:
        x, bad = block.x.copy(), np.isin(block.ids, poison)
        x[bad, 0, 0, 0] = 1
        y = np.diagonal(block.x[:, 0], axis1=1, axis2=2)[:, :CLASSES].argmax(1)
        blocks.append(Block(block.owner, block.first_id, x, y))
    pool, names = moved(Pool(tuple(blocks), CLASSES), (11, 90, 400), seed)
    flagged = np.sort([names[i] for i in poison.tolist()])
    positions = np.flatnonzero(np.isin(pool.ids, flagged))
    assert set(pool.ids[positions].tolist()) != set(positions.tolist())  # the mistake would show

    def train(job):
        return Trained(Detector(), (), len(job.pool), 1, 0.0)

    verdict = judged(SHIPPED[kind](**fields), pool, train)
    assert np.sort(verdict.removed).tolist() == flagged.tolist()
