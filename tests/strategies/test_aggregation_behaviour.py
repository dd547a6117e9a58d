"""What single rules are for: sybils, minorities, signs, noise, memory between rounds."""

import aggregation_oracles as oracle
import numpy as np
import pytest
import torch

from learning.method import discover
from strategies.aggregation.base import Aggregator, Context
from strategies.aggregation.centred_clipping import CentredClipping
from strategies.aggregation.dnc import DnC
from strategies.aggregation.flame import Flame
from strategies.aggregation.fltrust import FLTrust
from strategies.aggregation.foolsgold import FoolsGold
from strategies.aggregation.mda import closest_together
from strategies.aggregation.norm_clipping import NormClipping
from strategies.aggregation.robust_learning_rate import RobustLearningRate
from strategies.aggregation.updates import Updates

RULES = discover(Aggregator, "strategies.aggregation")


def updates_of(rows, round=1, names=None):
    rows = torch.as_tensor(np.asarray(rows))
    names = names or tuple(f"a{at}" for at in range(len(rows)))
    return Updates(rows, torch.ones(len(rows), dtype=torch.float64), names, round)


ROBUST = {
    "median": {}, "trimmed_mean": {"f": 4}, "krum": {"f": 4}, "multi_krum": {"f": 4},
    "bulyan": {"f": 4}, "geometric_median": {"iterations": 1000}, "meamed": {"f": 4},
    "mda": {"f": 4}, "dnc": {"f": 4}, "flame": {}, "norm_clipping": {}, "centred_clipping": {},
}  # fmt: skip


@pytest.mark.parametrize("attack", [-1.0, -30.0, 1e6, 1e30])
@pytest.mark.parametrize("kind", sorted(ROBUST))
def test_four_of_twenty_agents_do_not_turn_a_robust_rule_round(kind, attack):
    """The mean is lost in all cases but the first."""
    draws = np.random.default_rng(8)
    honest = 1 + 0.5 * draws.standard_normal((16, 200))
    rows = draws.permutation(np.concatenate([honest, attack * honest[:4]]))
    rule = RULES[kind](**ROBUST[kind])
    update = rule.aggregate(updates_of(rows), {}, Context()).update.numpy()
    true = honest.mean(axis=0)
    assert oracle.cosine(update, true) > 0.75
    assert np.linalg.norm(update) < 2 * np.linalg.norm(true)
    if attack != -1:
        mean = RULES["mean"]().aggregate(updates_of(rows), {}, Context()).update.numpy()
        assert oracle.cosine(mean, true) < 0.75 or np.linalg.norm(mean) > 1000


def test_foolsgold_silences_copies_and_remembers_them():
    draws = np.random.default_rng(9)
    goal, state = draws.standard_normal(50), {}
    for round in range(1, 4):
        rows = draws.standard_normal((8, 50))
        rows[:3] = goal + 0.01 * draws.standard_normal((3, 50))
        found = FoolsGold(layer="all").aggregate(updates_of(rows, round), state, Context())
        assert float(found.trust[:3].sum()) == 0
        assert float(found.trust.sum()) == pytest.approx(1)
        state = found.state
    # A sybil that behaves for one round is known by its history.
    rows = draws.standard_normal((8, 50))
    later = FoolsGold(layer="all").aggregate(updates_of(rows, 4), state, Context())
    fresh = FoolsGold(layer="all").aggregate(updates_of(rows, 4), {}, Context())
    assert float(later.trust[:3].sum()) == 0
    assert float(fresh.trust[:3].min()) > 0


def test_foolsgold_sums_up_the_history_of_each_agent_by_name():
    draws, state, sums = np.random.default_rng(10), {}, {}
    for round in range(1, 6):
        here = sorted(draws.choice(9, 6, replace=False).tolist())
        rows = draws.standard_normal((6, 30))
        names = tuple(f"agent {at}" for at in here)
        before = {key: value.clone() for key, value in state.items()}
        context = Context(head=slice(20, 30))
        found = FoolsGold().aggregate(updates_of(rows, round, names), state, context)
        assert all(torch.equal(state[key], before[key]) for key in before)
        for name, row in zip(names, rows, strict=True):
            sums[name] = sums.get(name, 0) + row[20:]
        trust = oracle.foolsgold_trust(np.array([sums[name] for name in names]))
        np.testing.assert_allclose(found.trust, trust / trust.sum(), atol=1e-9)
        np.testing.assert_allclose(found.update, found.trust.numpy() @ rows, atol=1e-12)
        state = found.state
        assert set(state) == {f"history/{name}" for name in sums}
        for name, total in sums.items():
            np.testing.assert_allclose(state[f"history/{name}"], total)


def test_foolsgold_among_copies_only_leaves_the_model():
    found = FoolsGold().aggregate(updates_of(np.ones((4, 6))), {}, Context())
    assert not found.update.any()
    assert found.notes


def test_fltrust_takes_only_what_points_its_way_and_at_its_length():
    own = torch.tensor([1.0, 1.0, 0.0])
    rows = np.array([[5.0, 5, 0], [-1, -1, 0], [0, 0, 1e9], [1, 0, 0]])
    found = FLTrust().aggregate(updates_of(rows), {}, Context(own=own))
    np.testing.assert_allclose(found.trust, np.array([1, 0, 0, 0.5**0.5]) / (1 + 0.5**0.5))
    np.testing.assert_allclose(found.update, oracle.fltrust(rows, own.double().numpy()))


def test_fltrust_needs_an_own_update_and_survives_one_that_says_nothing():
    with pytest.raises(ValueError, match="the defender's own update"):
        FLTrust().aggregate(updates_of(np.ones((3, 2))), {}, Context())
    with pytest.raises(ValueError, match=r"one of shape \(3,\)"):
        FLTrust().aggregate(updates_of(np.ones((3, 2))), {}, Context(own=torch.ones(3)))
    assert FLTrust.needs_own
    assert not any(rule.needs_own for kind, rule in RULES.items() if kind != "fltrust")
    for own, rows in ((torch.zeros(2), np.ones((3, 2))), (torch.ones(2), -np.ones((3, 2)))):
        found = FLTrust().aggregate(updates_of(rows), {}, Context(own=own))
        assert not found.update.any()
        assert found.notes
    rows = np.array([[0.0, 0], [1, 1]])
    found = FLTrust().aggregate(updates_of(rows), {}, Context(own=torch.ones(2)))
    np.testing.assert_allclose(found.update, [1, 1])


def test_flame_drops_the_minority_that_points_elsewhere():
    draws = np.random.default_rng(11)
    for _ in range(20):
        rows = 0.3 * draws.standard_normal((15, 60)) + draws.standard_normal(60)
        rows[:6] = 0.1 * draws.standard_normal((6, 60)) + draws.standard_normal(60)
        found = Flame(noise=0).aggregate(updates_of(rows), {}, Context())
        assert not found.selected[:6].any()
        assert int(found.selected.sum()) >= 8
        assert not found.notes


def test_flame_without_a_cluster_keeps_all_and_says_so():
    rows = np.random.default_rng(0).standard_normal((2, 5))
    assert Flame().aggregate(updates_of(rows), {}, Context()).selected.all()


def test_noise_has_its_deviation_and_changes_with_the_round_only():
    rows = np.zeros((3, 40_000))
    rule = NormClipping(noise=0.5)
    first, second = (
        rule.aggregate(updates_of(rows, round), {}, Context(seed=1)).update for round in (1, 2)
    )
    again = rule.aggregate(updates_of(rows, 1), {}, Context(seed=1, memory=1000)).update
    other = rule.aggregate(updates_of(rows, 1), {}, Context(seed=2)).update
    assert torch.equal(first, again)
    assert abs(float(first.std()) - 0.5) < 0.01
    for draws in (second, other):
        assert abs(float(torch.corrcoef(torch.stack([first, draws]))[0, 1])) < 0.03


def test_centred_clipping_goes_on_from_its_last_aggregate():
    draws, state, centre = np.random.default_rng(12), {}, None
    rule = CentredClipping(radius=0.7, iterations=2)
    for round in range(1, 5):
        rows = draws.standard_normal((6, 25))
        found = rule.aggregate(updates_of(rows, round), state, Context())
        centre = oracle.centred_clipping(rows, centre, 0.7, 2)
        np.testing.assert_allclose(found.update, centre, atol=1e-12)
        assert torch.equal(found.state["centre"], found.update)
        found.update.add_(1)  # the caller's to change
        state = {key: value.clone() for key, value in found.state.items()}
        np.testing.assert_allclose(state["centre"], centre, atol=1e-12)


def test_robust_learning_rate_turns_coordinates_without_agreement_round():
    rows = np.array([[1.0, 1, 1, 0], [1, 1, -1, 0], [1, -1, -1, 0], [2, 1, 3, 0]])
    found = RobustLearningRate(threshold=2).aggregate(updates_of(rows), {}, Context())
    assert found.update.tolist() == [1.25, 0.5, -0.5, 0]


def test_dnc_draws_other_coordinates_in_each_round_and_iteration():
    draws = np.random.default_rng(13)
    rows = draws.standard_normal((20, 500))
    rows[:4] += 3
    for iterations in (1, 5):
        rule = DnC(f=4, iterations=iterations, coordinates=40)
        found = rule.aggregate(updates_of(rows), {}, Context(seed=1))
        assert found.selected.tolist() == [False] * 4 + [True] * 16
    noise = draws.standard_normal((20, 500))
    rule = DnC(f=4, coordinates=5)
    kept = {
        tuple(rule.aggregate(updates_of(noise, round), {}, Context()).selected.tolist())
        for round in range(1, 6)
    }
    assert len(kept) > 1
    many = DnC(f=9, iterations=50, coordinates=5, filtered=2.0)
    assert many.aggregate(updates_of(noise), {}, Context()).selected.any()


def test_the_smallest_diameter_is_found_where_subsets_are_too_many_to_try():
    draws = np.random.default_rng(14)
    rows = draws.standard_normal((60, 30))
    bad = np.sort(draws.choice(60, 12, replace=False))
    rows[bad] *= 5
    squared = oracle.squared(rows)
    kept = closest_together(squared, 12)
    assert np.array_equal(kept, np.delete(np.arange(60), bad))


@pytest.mark.parametrize("seed", range(30))
def test_the_smallest_diameter_is_that_of_all_subsets_also_where_distances_tie(seed):
    draws = np.random.default_rng(seed)
    n, f = int(draws.integers(3, 10)), int(draws.integers(0, 4))
    f = min(f, (n - 1) // 2)
    squared = oracle.squared(draws.integers(0, 4, (n, 2)).astype(float))
    kept = closest_together(squared, f)
    subsets = list(oracle.itertools.combinations(range(n), n - f))
    least = min(squared[np.ix_(s, s)].max() for s in subsets)
    assert len(kept) == n - f
    assert squared[np.ix_(kept, kept)].max() == least


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", sorted(RULES))
def test_on_a_gpu_the_answer_is_that_of_the_cpu(kind):
    fields = ROBUST.get(kind, {}) | ({"threshold": 3} if kind == "robust_learning_rate" else {})
    rule = RULES[kind](**fields)
    rows = torch.from_numpy(np.random.default_rng(15).standard_normal((20, 70_001))).float()
    weights, names = torch.ones(20).double(), tuple(map(str, range(20)))
    there = rows.cuda()
    context = Context(own=torch.ones(70_001), memory=2**22)
    one = rule.aggregate(Updates(rows, weights, names), {}, context)
    other = rule.aggregate(Updates(there, weights, names), {}, context)
    assert other.update.device == there.device
    torch.testing.assert_close(other.update.cpu(), one.update, rtol=1e-5, atol=1e-5)
    fewer = Updates(there, weights, names).without(["3", "7"])
    one = rule.aggregate(Updates(rows, weights, names).without(["3", "7"]), one.state, context)
    other = rule.aggregate(fewer, other.state, context)
    torch.testing.assert_close(other.update.cpu(), one.update, rtol=1e-5, atol=1e-5)
