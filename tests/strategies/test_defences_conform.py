"""What every defence must do; the cases of a new one are its own examples."""

import copy

import numpy as np
import pytest
import torch
from found_methods import cases, check_source
from pydantic import ValidationError

from learning.method import Method, discover
from learning.pool import Block, Pool
from learning.training.job import Trained
from strategies.base import (
    Augmentation,
    Defence,
    Defender,
    Filter,
    Indexing,
    Predictor,
    TrainingHook,
    Verdict,
)

PACKAGES = tuple(
    f"strategies.{part}" for part in ("filtering", "augmentation", "indexing", "hooks")
)
DEFENCES = discover(Method, *PACKAGES)
HOUSE = {
    "activation_clustering": [
        {},
        {"decision": "size", "reduce": "ica", "size_threshold": 0.5},
        {"decision": "silhouette", "reduce": "none"},
    ],
    "agent_augmentation": [{}, {"agents": 3, "poison_rate": 0.2}],
    "agent_indexing": [
        {},
        {"method": "tree", "passes": 2.0},
        {"method": "shards", "shards": 2},
        {"index": "unknown"},
        {"index": "unknown", "similarity": "mmd", "method": "shards"},
    ],
    "backdoor_adversarial_training": [{}, {"triggers": 3, "poison_rate": 1.0}],
    "cutmix": [{}, {"probability": 1.0, "alpha": 0.3}],
    "influence": [{}, {"judge": "self", "remove": "count", "count": 7, "per": "class"}],
    "inverse_self_paced": [
        {"self_training_epochs": 20},
        {"preset": "fast", "rounds": 3, "runs": 2, "first_sample": "half"},
        {"rounds": 1, "runs": 1, "subset": 0.5, "self_training_epochs": 0},
    ],
    "iterative_trimmed_loss": [{}, {"kept_share": 0.8, "rounds": 2, "restart": False}],
    "loss_defence": [{}, {"share": 0.3, "per": "class"}],
    "maxup": [{}, {"change": "cutout", "side": 0.3, "versions": 2}],
    "mixup": [{}],
    "nearest_labels": [{}, {"k": 3, "eta": 0.7, "space": "features"}],
    "poison_patches": [{}, {"poisons": 0.2, "largest": 1.0}],
    "sever": [{}, {"share": 0.1, "rounds": 2, "per": "class"}],
    "spectral_signatures": [{}, {"remove": "count", "count": 9, "per": "class"}],
    "strip": [{"images": 20}, {"blend": "mean", "frr": 0.2, "images": 7}],
    "trim": [{}, {"expected_poison": 0.3, "max_turns": 2}],
}
CASES = cases(DEFENCES, HOUSE)


@pytest.mark.parametrize("kind", sorted(DEFENCES))
def test_every_defence_is_played(kind):
    assert kind in dict(CASES)


def snapshot(pool):
    return [(b.owner, b.first_id, b.x.tobytes(), b.y.tobytes()) for b in pool.blocks], pool.removed


def digest(result, pool):
    """What a defence's answer amounts to, as plain numbers."""
    if isinstance(result, Verdict):
        return [result.removed, result.scored_ids, result.scores, result.notes]
    if isinstance(result, Pool):
        return [result.ids, result.x, result.y]
    if isinstance(result, Predictor):
        models = [*result.shared, *(m for many in result.by_agent.values() for m in many)]
        guesses = result.guesser.guess(pool.x) if result.guesser else []
        return [*(m.module.head.numpy() for m in models), result.work, guesses, result.notes]
    return list(result)


def act(defence, pool, defender, play):
    if isinstance(defence, Filter):
        return play(defence.inspect(pool, defender))
    if isinstance(defence, Augmentation):
        return play(defence.augment(pool, defender))
    if isinstance(defence, Indexing):
        return play(defence.predictor(pool, defender, (), defender.agents))
    assert isinstance(defence, TrainingHook)
    targets = torch.eye(pool.classes)[torch.from_numpy(pool.y)]
    return defence.mix(torch.from_numpy(pool.x), targets, defender.torch_generator("test"))


def equal(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("kind", sorted(DEFENCES))
def test_it_is_one_defence_that_names_its_paper_and_the_origin_of_its_numbers(kind):
    defence = DEFENCES[kind]
    families = [f for f in (Filter, Augmentation, TrainingHook, Indexing) if issubclass(defence, f)]
    assert len(families) == 1
    assert issubclass(defence, Defence)
    check_source(defence)


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_it_survives_json_and_refuses_unknown_fields(kind, fields):
    defence = DEFENCES[kind](**fields)
    assert DEFENCES[kind].model_validate_json(defence.model_dump_json()) == defence
    assert defence.model_dump()["kind"] == kind
    with pytest.raises(ValidationError):
        DEFENCES[kind](**fields, no_such_field=1)
    with pytest.raises(ValidationError):
        defence.kind = "other"


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_it_is_deterministic_leaves_the_pool_and_the_global_generators_alone(
    kind, fields, play, build
):
    pool, defender = build.pool(), build.defender()
    before, state = snapshot(pool), copy.deepcopy(np.random.get_state())
    torch_state = torch.random.get_rng_state()
    first = digest(act(DEFENCES[kind](**fields), pool, defender, play), pool)
    assert snapshot(pool) == before
    assert equal(np.random.get_state(), state)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    np.random.seed(3)
    torch.manual_seed(3)
    fresh = build.pool()
    again = digest(act(DEFENCES[kind](**fields), fresh, build.defender(), play), fresh)
    assert equal(first, again)


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_its_answer_is_well_formed(kind, fields, play, pool, defender):
    result = act(DEFENCES[kind](**fields), pool, defender, play)
    if isinstance(result, Verdict):
        assert set(result.removed) <= set(pool.ids)
        assert (np.diff(result.removed) > 0).all()
        assert len(result.scored_ids) == len(result.scores)
        assert np.isfinite(result.scores).all()
    elif isinstance(result, Pool):
        assert result.x.dtype == np.float32
        assert 0 <= result.x.min() <= result.x.max() <= 1
    elif isinstance(result, Predictor):
        assert result.work > 1
        assert set(result.by_agent) == set(defender.agents)
    else:
        x, targets = result
        assert x.shape == pool.x.shape
        assert 0 <= x.min() <= x.max() <= 1
        torch.testing.assert_close(targets.sum(1), torch.ones(len(x)))


def shuffled(pool, seed):
    """The same rows under other ids, each block in another order; and old id -> new id."""
    draws = np.random.default_rng(seed)
    blocks, names, first = [], {}, 0
    for block in pool.blocks:
        order = draws.permutation(len(block.y))
        first += int(draws.integers(0, 1000))
        new = Block(block.owner, first, block.x[order], block.y[order])
        names |= dict(zip(block.ids[order].tolist(), new.ids.tolist(), strict=True))
        blocks.append(new)
        first += len(block.y)
    return Pool(tuple(blocks), pool.classes), names


FILTER_CASES = [case for case in CASES if issubclass(DEFENCES[case[0]], Filter)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "fields"), FILTER_CASES)
def test_a_filter_removes_the_same_rows_whatever_their_order_and_ids(
    kind, fields, seed, play, build, defender
):
    pool = build.pool(seed=seed)
    moved, names = shuffled(pool, seed)
    verdict = act(DEFENCES[kind](**fields), pool, defender, play)
    other = act(DEFENCES[kind](**fields), moved, defender, play)
    assert sorted(names[i] for i in verdict.removed.tolist()) == other.removed.tolist()
    scores = dict(zip(other.scored_ids.tolist(), other.scores.tolist(), strict=True))
    moved_scores = [scores[names[i]] for i in verdict.scored_ids.tolist()]
    np.testing.assert_allclose(moved_scores, verdict.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "fields"), FILTER_CASES)
def test_ids_survive_an_earlier_filter(kind, fields, seed, play, build, defender):
    pool = build.pool(seed=seed)
    gone = pool.ids[:: seed + 3]
    verdict = act(DEFENCES[kind](**fields), pool.without_rows(gone), defender, play)
    assert not set(verdict.removed) & set(gone)
    assert set(verdict.scored_ids) == set(pool.ids) - set(gone)


class Detector(torch.nn.Module):
    """Sees one thing: a corner pixel that no clean row has."""

    def features(self, x):
        return 10 * (x[:, 0, 0, :2] > 0.95).float()


@pytest.mark.parametrize("seed", range(3))
def test_with_a_perfect_detector_exactly_the_poisoned_rows_go(play, build, defender, seed):
    """The plumbing from features to ids, on rows in random order under random ids."""
    clean = build.pool(seed=seed)
    poison = np.random.default_rng(seed).choice(clean.ids, 12, replace=False)
    blocks = []
    for block in clean.blocks:
        x = block.x.copy()
        x[np.isin(block.ids, poison), 0, 0, 0] = 1
        blocks.append(Block(block.owner, block.first_id, x, block.y))
    moved, names = shuffled(Pool(tuple(blocks), clean.classes), seed)
    play.train = lambda job: Trained(Detector(), (), len(job.pool), 1, 0.0)
    for kind, fields in (
        ("spectral_signatures", {"remove": "count", "count": 12}),
        ("activation_clustering", {"decision": "size", "size_threshold": 0.5}),
    ):
        verdict = act(DEFENCES[kind](**fields), moved, defender, play)
        assert verdict.removed.tolist() == sorted(names[i] for i in poison.tolist())


def test_defender_knows_only_what_it_is_told():
    told = {"seed", "shape", "classes", "agents", "epochs", "device", "batch_size", "memory_gib"}
    assert set(Defender.__dataclass_fields__) == told
