import numpy as np
import pytest
import torch

import strategies.indexing.similarity as module
from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from strategies.base import NOBODY, Defender
from strategies.indexing.similarity import SIMILARITIES, MeanDiscrepancy, NearestFeatures

AGENTS = ("ada", "bob", "cyd")
DEFENDER_KNOWS = Defender(0, (1, 1, 4), 3, AGENTS, 10, batch_size=7)


class Points(torch.nn.Module):
    """Features are the pixels; the predicted class is the largest of the first three."""

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return x.flatten(1)[:, :3] * 50


MODEL = Trained(Points(), (), 0, 10, 0.0)


def pool_of(**rows):
    """rows: owner -> list of (label, four pixels)."""
    blocks, first = [], 0
    for owner, entries in rows.items():
        x = np.asarray([pixels for _, pixels in entries], np.float32)[:, None, None, :]
        blocks.append(Block(owner, first, x, np.asarray([y for y, _ in entries], np.int64)))
        first += len(entries)
    return Pool(tuple(blocks), 3)


def inputs(*pixels):
    return np.asarray(pixels, np.float32)[:, None, None, :]


def random_pool(seed=0, rows=30):
    draws = np.random.default_rng(seed)
    return pool_of(
        **{
            owner: [(int(draws.integers(3)), draws.random(4)) for _ in range(rows)]
            for owner in (DEFENDER, *AGENTS)
        }
    )


def by_hand(kind, pool, x):
    """The definitions, one input and one agent at a time, in float64."""
    out = []
    agents = [pool.block(name) for name in AGENTS]
    for row in x.reshape(len(x), -1).astype(np.float64):
        label = int(row[:3].argmax())
        mine = [b.x.reshape(len(b.x), -1)[b.y == label].astype(np.float64) for b in agents]
        if kind == "nearest_features":
            scores = [-min(np.linalg.norm(z - row, axis=1), default=np.inf) for z in mine]
        else:
            everything = np.concatenate(mine)
            gaps = [np.linalg.norm(a - b) for i, a in enumerate(everything) for b in everything[:i]]
            scale = np.sort(gaps)[(len(gaps) - 1) // 2]

            def kernel(a, b, scale=scale):
                return np.exp(-(np.linalg.norm(a - b) ** 2) / (2 * scale**2))

            scores = [
                np.mean([kernel(row, z) for z in own])
                - np.mean([kernel(a, b) for a in own for b in own]) / 2
                for own in mine
            ]
        out.append(AGENTS[int(np.argmax(scores))])
    return out


@pytest.mark.parametrize("kind", sorted(SIMILARITIES))
def test_equals_the_definition_row_by_row(kind):
    pool = random_pool()
    x = inputs(*np.random.default_rng(9).random((60, 4)))
    guesser = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (MODEL,), AGENTS)
    guesses = guesser.guess(x)
    assert guesses == by_hand(kind, pool, x)
    assert len(set(guesses)) == 3


@pytest.mark.parametrize("kind", sorted(SIMILARITIES))
def test_small_blocks_change_nothing(kind, monkeypatch):
    pool, x = random_pool(2), inputs(*np.random.default_rng(3).random((40, 4)))
    guesser = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (MODEL,), AGENTS)
    whole = guesser.guess(x)
    monkeypatch.setattr(module, "CELLS", 100)
    assert guesser.guess(x) == whole


@pytest.mark.parametrize("kind", sorted(SIMILARITIES))
def test_only_rows_labelled_as_the_predicted_class_count(kind):
    near_but_other_label = (1, [0.9, 0.1, 0.0, 0.5])
    far_with_the_label = (0, [0.6, 0.0, 0.5, 1.0])
    pool = pool_of(ada=[near_but_other_label], bob=[far_with_the_label], cyd=[(2, [0, 0, 1, 0])])
    guesser = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (MODEL,), AGENTS)
    assert guesser.guess(inputs([0.9, 0.1, 0.0, 0.5])) == ["bob"]


@pytest.mark.parametrize("kind", sorted(SIMILARITIES))
def test_a_class_that_nobody_contributed_is_compared_with_all_rows(kind):
    pool = pool_of(ada=[(1, [0, 0, 0, 0])], bob=[(1, [1, 1, 1, 1])])
    guesser = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (MODEL,), ("ada", "bob"))
    assert guesser.guess(inputs([0.2, 0, 0, 0], [1, 0.9, 0.9, 1])) == ["ada", "bob"]


@pytest.mark.parametrize("kind", sorted(SIMILARITIES))
def test_the_defender_is_never_guessed_and_ties_go_to_the_first(kind):
    point = (0, [0.9, 0, 0, 0])
    pool = pool_of(defender=[point], ada=[point], bob=[point])
    guesser = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (MODEL,), ("ada", "bob"))
    assert guesser.guess(inputs([0.9, 0, 0, 0])) == ["ada"]
    assert guesser.guess(np.zeros((0, 1, 1, 4), np.float32)) == []


def test_mean_discrepancy_subtracts_what_an_agents_rows_share_among_themselves():
    """bob's rows are one point, ada's are spread; the raw mean kernel would pick bob."""
    ada = [(0, [0.9, 0.1 * i, 0, 0.1 * j]) for i in range(5) for j in range(5)]
    bob = [(0, [0.9, 0.30, 0.2, 0.3])] * 5
    pool = pool_of(ada=ada, bob=bob)
    guesser = MeanDiscrepancy(pool, DEFENDER_KNOWS, (MODEL,), ("ada", "bob"))
    assert guesser.guess(inputs([0.9, 0.1, 0.0, 0.1])) == ["ada"]
    assert guesser.guess(inputs([0.9, 0.3, 0.2, 0.3])) == ["bob"]


def test_several_models_join_their_features_and_average_their_softmax():
    class Last(Points):
        def features(self, x):
            return x.flatten(1)[:, 3:]

    pool = pool_of(ada=[(0, [0.9, 0, 0, 0.0])], bob=[(0, [0.9, 0, 0, 1.0])])
    models = (MODEL, Trained(Last(), (), 0, 10, 0.0))
    guesser = NearestFeatures(pool, DEFENDER_KNOWS, models, ("ada", "bob"))
    assert guesser._rows.shape == (2, 5)
    assert guesser.guess(inputs([0.9, 0, 0, 0.8])) == ["bob"]


class Dead(Points):
    """Features and logits of inputs with a bright last pixel are moved."""

    def __init__(self, features=0.0, logits=0.0):
        super().__init__()
        self.spoilt = features, logits

    def features(self, x):
        return super().features(x) + self._extra(x, self.spoilt[0])

    def forward(self, x):
        return super().forward(x) + self._extra(x, self.spoilt[1])

    def _extra(self, x, value):
        return torch.where(x[:, 0, 0, 3:] > 0.95, value, 0.0)


@pytest.mark.parametrize("value", [{"features": float("inf")}, {"logits": float("inf")}])
@pytest.mark.parametrize("kind", sorted(SIMILARITIES))
def test_what_is_no_number_is_like_nobody(kind, value):
    """An input whose answer is NaN or infinite was guessed as the first agent's."""
    model = Trained(Dead(**value), (), 0, 10, 0.0)
    pool = pool_of(ada=[(0, [0.9, 0, 0, 0.1])], bob=[(0, [0.9, 0, 0, 0.8])])
    guesser = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (model,), ("ada", "bob"))
    asked = inputs([0.9, 0, 0, 1.0], [0.9, 0, 0, 0.7], [0, 0.9, 0, 0.96])
    assert guesser.guess(asked) == [NOBODY, "bob", NOBODY]
    two = SIMILARITIES[kind](pool, DEFENDER_KNOWS, (MODEL, model), ("ada", "bob"))
    assert two.guess(asked)[0] == NOBODY


def test_an_agent_whose_rows_are_no_numbers_is_not_the_nearest():
    pool = pool_of(ada=[(0, [0.9, 0, 0, 1.0])], bob=[(0, [0.9, 0, 0, 0.1])])
    model = Trained(Dead(features=float("inf")), (), 0, 10, 0.0)
    guesser = NearestFeatures(pool, DEFENDER_KNOWS, (model,), ("ada", "bob"))
    assert guesser.guess(inputs([0.9, 0, 0, 0.9])) == ["bob"]
