"""Update attacks that look at others' updates: formulas, bounds, peers, and what they break."""

import aggregation_oracles as oracle
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clients.update_attacks.alie import UNBOUNDED, Alie, z_max
from clients.update_attacks.alie_optimised import AlieOptimised
from clients.update_attacks.base import NotGranted, View
from clients.update_attacks.ipm import Ipm
from clients.update_attacks.ipm_optimised import IpmOptimised
from clients.update_attacks.mimic import Mimic
from clients.update_attacks.min_max import MinMax
from clients.update_attacks.min_sum import MinSum
from clients.update_attacks.parts.line_search import grid
from learning.method import discover
from strategies.aggregation.base import Context
from strategies.aggregation.krum import Krum
from strategies.aggregation.mean import Mean
from strategies.aggregation.median import Median
from strategies.aggregation.trimmed_mean import TrimmedMean
from strategies.aggregation.updates import Updates

N, M = 20, 4
PLAIN = [Alie(), Alie(z=1.5), Ipm(), Mimic(), Mimic(pick="first")]
MOVED = [
    cls(perturbation=p, **more)
    for p in ("unit", "sign", "std")
    for cls, more in ((MinMax, {}), (MinSum, {}), (MinSum, {"bound": "min"}))
]
OPTIMISED = [AlieOptimised(), IpmOptimised()]
RULES = {
    "mean": (Mean(), lambda rows: rows.mean(axis=0)),
    "median": (Median(), oracle.median),
    "trimmed_mean": (TrimmedMean(f=M), lambda rows: oracle.trimmed_mean(rows, M)),
    "krum": (Krum(f=M), lambda rows: oracle.krum(rows, M)),
}


def deployed(rule):
    def answer(updates):
        names = tuple(map(str, range(len(updates))))
        rows = Updates(updates, torch.ones(len(updates)).double(), names)
        return rule.aggregate(rows, {}, Context()).update

    return answer


def view(seen, *, n=N, m=M, rule=None, dtype=torch.float64):
    seen = torch.as_tensor(seen).to(dtype)
    return View(
        agent="mallory",
        seed=3,
        round=2,
        start=torch.zeros(seen.shape[1]),
        own=seen[0].clone(),
        seen=seen,
        participants=n,
        accomplices=m,
        deployed=rule,
    )


def honest(seed, k=N - M, d=30, skewed=False):
    draws = np.random.default_rng(seed)
    rows = draws.standard_normal((k, d)) + 0.5 * draws.standard_normal(d)
    return np.exp(rows) if skewed else rows


def name(attack):
    fields = [str(getattr(attack, f)) for f in ("z", "pick", "perturbation", "bound")
              if hasattr(attack, f)]  # fmt: skip
    return "-".join([attack.kind, *fields])


# ALIE and inner product manipulation


@pytest.mark.parametrize(("n", "m"), [(20, 4), (50, 10), (50, 24), (51, 24), (10, 4), (7, 3)])
def test_z_is_the_quantile_of_the_paper(n, m):
    s = np.floor(n / 2 + 1) - m
    assert z_max(n, m) == pytest.approx(scipy.stats.norm.ppf((n - m - s) / (n - m)), rel=1e-12)
    assert z_max(n, m) > 0


def test_z_of_every_round_is_defined():
    for n in range(1, 60):
        found = [z_max(n, m) for m in range(1, n + 1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            m = np.arange(1, n + 1)
            wanted = scipy.stats.norm.ppf((n - n // 2 - 1) / (n - m))
        majority = m >= n // 2 + 1
        np.testing.assert_array_equal(np.asarray(found)[majority], UNBOUNDED)
        np.testing.assert_allclose(
            np.asarray(found)[~majority], np.maximum(wanted[~majority], 0), atol=1e-12
        )


@pytest.mark.parametrize("seed", range(4))
def test_alie_is_the_mean_less_deviations(seed):
    rows = honest(seed)
    wanted = rows.mean(axis=0) - 1.5 * rows.std(axis=0)
    np.testing.assert_allclose(Alie(z=1.5).craft(view(rows)), wanted, rtol=1e-12)
    by_number = rows.mean(axis=0) - scipy.stats.norm.ppf(9 / 16) * rows.std(axis=0)
    np.testing.assert_allclose(Alie().craft(view(rows, n=20, m=4)), by_number, rtol=1e-12)
    wanted = -0.7 * rows.mean(axis=0)
    np.testing.assert_allclose(Ipm(epsilon=0.7).craft(view(rows)), wanted, rtol=1e-12)


@pytest.fixture(scope="module")
def byzfl():
    return pytest.importorskip("byzfl", reason="byzfl is not installed")


@pytest.mark.parametrize("seed", range(4))
def test_byzfl_agrees(byzfl, seed):
    """But that byzfl adds deviations, and divides their squares by k - 1."""
    rows = honest(seed)
    z = 1.5 * np.sqrt(len(rows) / (len(rows) - 1))
    pairs = [
        (Alie(z=-z), byzfl.ALittleIsEnough(tau=1.5)),
        (Ipm(epsilon=0.4), byzfl.InnerProductManipulation(tau=0.4)),
        (Mimic(pick="first"), byzfl.Mimic(0)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.craft(view(rows)), theirs(rows.copy()), rtol=1e-12)


# Min-max and min-sum


def direction(attack, rows):
    mean = rows.mean(axis=0)
    if attack.perturbation == "unit":
        return mean / np.linalg.norm(mean)
    return np.sign(mean) if attack.perturbation == "sign" else rows.std(axis=0)


def measured(attack, rows, update):
    """The condition of the paper, by brute force: what is measured, and its bound."""
    squared, apart = ((rows - update) ** 2).sum(axis=1), oracle.squared(rows)
    if attack.kind == "min_max":
        return squared.max(), apart.max()
    sums = apart.sum(axis=1)
    return squared.sum(), sums.max() if attack.bound == "max" else sums.min()


def exact_gamma(attack, rows, p):
    """The positive root of the quadratic conditions."""
    about = rows - rows.mean(axis=0)
    squares, along = (about**2).sum(axis=1), about @ p
    if attack.kind == "min_sum":
        most = squares.max() if attack.bound == "max" else squares.min()
        return np.sqrt(most / (p @ p))
    widest = oracle.squared(rows).max()
    return min(
        np.roots([p @ p, 2 * b, s - widest]).max() for s, b in zip(squares, along, strict=True)
    )


@pytest.mark.parametrize("attack", MOVED, ids=name)
@pytest.mark.parametrize("seed", range(3))
def test_moves_as_far_as_the_bound_lets_it(attack, seed):
    rows = honest(seed)
    p = direction(attack, rows)
    gamma = exact_gamma(attack, rows, p)
    for tolerance in (1e-2, 1e-5, 1e-12):
        precise = attack.model_copy(update={"tolerance": tolerance})
        update = precise.craft(view(rows)).numpy()
        measure, bound = measured(attack, rows, update)
        assert measure <= bound * (1 + 1e-12)
        found = (rows.mean(axis=0) - update) @ p / (p @ p)
        reach = 2 * np.linalg.norm(rows - rows.mean(axis=0), axis=1).max() / np.linalg.norm(p)
        assert gamma - tolerance * reach - 1e-9 <= found <= gamma + 1e-9
        np.testing.assert_allclose(update, rows.mean(axis=0) - found * p, atol=1e-9)


@pytest.mark.parametrize("attack", MOVED, ids=name)
@pytest.mark.parametrize(("offset", "spread"), [(1e3, 1e-3), (0, 1e-12), (1e6, 0.3), (1, 1e-6)])
def test_keeps_the_bound_after_rounding(attack, offset, spread):
    """Float32, where the mean is far longer than what the updates differ by, and the reverse."""
    rows = (offset + spread * honest(1, d=200)).astype(np.float32)
    update = attack.craft(view(rows, dtype=torch.float32))
    assert update.dtype == torch.float32
    measure, bound = measured(attack, rows.astype(np.float64), update.double().numpy())
    assert measure <= bound * (1 + 1e-12)
    assert bound > 0


def test_small_updates_are_moved_as_far_as_large_ones():
    """The search of the paper's code, in absolute steps from 10, does not move these."""
    rows = honest(2)
    small, large = (
        [attack.craft(view(size * rows)).numpy() / size for attack in MOVED] for size in (1e-9, 1e3)
    )
    np.testing.assert_allclose(small, large, rtol=1e-6, atol=1e-9)


def test_min_sum_with_the_bound_of_the_code_is_closer():
    rows = honest(3)
    far, near = (MinSum(bound=b).craft(view(rows)).numpy() for b in ("max", "min"))
    centre = rows.mean(axis=0)
    assert np.linalg.norm(near - centre) < 0.9 * np.linalg.norm(far - centre)


# Mimic


@pytest.mark.parametrize("seed", range(6))
def test_mimic_copies_the_agent_farthest_along_the_principal_direction(seed):
    rows = honest(seed, d=7 if seed % 2 else 90, skewed=True) + 1e3
    about = rows - rows.mean(axis=0)
    projected = about @ np.linalg.svd(about)[2][0]
    wanted = rows[np.abs(projected).argmax()]
    np.testing.assert_array_equal(Mimic().craft(view(rows)), wanted)


def test_mimic_does_not_depend_on_where_the_origin_is():
    rows = honest(9)
    outlier = rows.copy()
    outlier[11] += 6 * np.sign(rows[11])
    for shift in (0, -40, 1e4):
        np.testing.assert_array_equal(Mimic().craft(view(outlier + shift)), (outlier + shift)[11])


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e6])
def test_mimic_does_not_depend_on_the_scale_of_the_updates(scale):
    rows = honest(9)
    rows[11] += 6 * np.sign(rows[11])
    np.testing.assert_array_equal(Mimic().craft(view(rows * scale)), (rows * scale)[11])


def test_mimic_minds_no_agent_that_is_the_mean_itself():
    rows = np.array([[0.0, 0], [4, 0], [-1, 0], [-3, 0]])
    np.testing.assert_array_equal(Mimic().craft(view(rows)), rows[1])


def test_mimic_copies_the_first_where_it_is_told_so():
    rows = honest(9)
    rows[11] += 6 * np.sign(rows[11])
    np.testing.assert_array_equal(Mimic(pick="first").craft(view(rows)), rows[0])


def test_mimic_takes_the_first_of_those_that_tie():
    rows = np.array([[1.0, 0], [3, 0]])
    np.testing.assert_array_equal(Mimic().craft(view(rows)), rows[0])
    np.testing.assert_array_equal(Mimic().craft(view(rows[::-1].copy())), rows[1])
    same = np.ones((5, 3))
    np.testing.assert_array_equal(Mimic().craft(view(same)), same[0])


# The optimised ones


def plain_of(attack):
    return Alie() if attack.kind == "alie_optimised" else Ipm()


def line(attack, rows):
    """The updates of factors, by NumPy."""
    mean = rows.mean(axis=0)
    if attack.kind == "alie_optimised":
        return lambda z: mean - z * rows.std(axis=0)
    return lambda epsilon: -epsilon * mean


def damage(rule, rows, update, m=M):
    return np.linalg.norm(rule(np.vstack([rows, *[update] * m])) - rows.mean(axis=0))


@pytest.mark.parametrize("attack", OPTIMISED, ids=name)
@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("skewed", [False, True])
def test_does_at_least_as_much_as_the_plain_attack_and_as_its_grid(attack, kind, skewed):
    rule, exact = RULES[kind]
    for seed in range(3):
        rows = honest(seed, skewed=skewed)
        found = damage(exact, rows, attack.craft(view(rows, rule=deployed(rule))).numpy())
        plain = plain_of(attack)
        assert found >= damage(exact, rows, plain.craft(view(rows)).numpy()) * (1 - 1e-9)
        crafted = line(attack, rows)
        factor = z_max(N, M) if attack.kind == "alie_optimised" else plain.epsilon
        best = max(damage(exact, rows, crafted(f)) for f in grid(factor, attack.most, 10))
        assert found >= best * (1 - 1e-9)


@pytest.mark.parametrize("attack", OPTIMISED, ids=name)
@pytest.mark.parametrize("kind", RULES)
def test_comes_close_to_the_best_of_many_factors(attack, kind):
    """But that Krum's damage has narrow peaks, one of which may be missed in one of six rounds."""
    rule, exact = RULES[kind]
    more = attack.model_copy(update={"evaluations": 40})
    factors = np.concatenate([[0], np.geomspace(attack.most / 1e3, attack.most, 120)])
    missed = 0
    for seed in range(6):
        rows = honest(seed, skewed=seed > 0)
        found = damage(exact, rows, more.craft(view(rows, rule=deployed(rule))).numpy())
        crafted = line(attack, rows)
        missed += found < 0.97 * max(damage(exact, rows, crafted(f)) for f in factors)
    assert missed <= (kind == "krum")


def test_optimising_pays_against_robust_rules():
    """Against each of them ALIE gets farther with a z of its own than with z_max."""
    for kind in ("median", "trimmed_mean", "krum"):
        rule, exact = RULES[kind]
        gains = []
        for seed in range(5):
            rows = honest(seed, skewed=True)
            best = AlieOptimised().craft(view(rows, rule=deployed(rule))).numpy()
            plain = Alie().craft(view(rows)).numpy()
            gains.append(damage(exact, rows, best) / damage(exact, rows, plain))
        assert min(gains) >= 1 - 1e-9
        assert max(gains) > 1.05, kind


@pytest.mark.parametrize("kind", ["median", "trimmed_mean", "krum"])
def test_finds_no_less_than_byzfl_in_as_many_evaluations(byzfl, kind):
    """byzfl adds the deviation, so it is given the updates turned around."""
    rule, exact = RULES[kind]
    theirs = {
        "median": byzfl.Median(),
        "trimmed_mean": byzfl.TrMean(M),
        "krum": byzfl.Krum(M + 1),  # n - f - 1 others there
    }[kind]
    ours_total, theirs_total = 0.0, 0.0
    for seed in range(4):
        rows = honest(seed)
        other = -byzfl.Optimal_ALittleIsEnough(theirs, pre_agg_list=[], f=M)(-rows)
        ours = AlieOptimised(most=70.0).craft(view(rows, rule=deployed(rule))).numpy()
        ours_total += damage(exact, rows, ours)
        theirs_total += damage(exact, rows, other)
    assert ours_total >= 0.99 * theirs_total


class Counted:
    """A rule in one dimension that remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def __call__(self, updates):
        self.asked.append(updates.clone())
        return self.answer(updates)


def ones(m=2, n=6, rule=None):
    """Honest updates of mean 1 and deviation 1: ALIE's update is 1 - z, IPM's -epsilon."""
    return view(np.array([[0.0], [2], [0], [2]]), n=n, m=m, rule=rule)


@pytest.mark.parametrize("evaluations", [6, 7, 20, 51])
def test_asks_the_rule_no_more_often_than_told(evaluations):
    for attack in (AlieOptimised, IpmOptimised):
        rule = Counted(lambda updates: updates.mean(dim=0))
        attack(evaluations=evaluations).craft(ones(rule=rule))
        assert len(rule.asked) == evaluations
        for asked in rule.asked:
            assert asked.shape == (6, 1)
            assert torch.equal(asked[:4], ones().seen)
            assert torch.equal(asked[4], asked[5])


def test_goes_to_the_end_against_the_mean():
    rule = Counted(lambda updates: updates.mean(dim=0))
    assert float(AlieOptimised(most=7.0).craft(ones(rule=rule))) == -6.0
    assert float(IpmOptimised(most=7.0).craft(ones(rule=rule))) == -7.0


def test_takes_the_smallest_of_factors_that_tie():
    still = Counted(lambda updates: torch.ones(1, dtype=torch.float64))
    assert float(AlieOptimised().craft(ones(rule=still))) == 1.0
    assert float(IpmOptimised().craft(ones(rule=still))) == 0.0

    def step(updates):
        """The same answer to all epsilons of 0.3 or more."""
        return torch.where(updates[-1:, 0] <= -0.3, -5.0, 1.0)

    found = -float(IpmOptimised(evaluations=60).craft(ones(rule=Counted(step))))
    assert 0.3 <= found < 0.3001


def test_finds_a_peak_below_the_first_step_of_a_walk():
    """A rule that is moved by small deviations only, as Krum is."""

    def krum_like(updates):
        """Takes the attack up to z = 0.2, and farther out another update, but not as far away."""
        z = 1 - float(updates[-1])
        return torch.full((1,), 1 - (z if z < 0.2 else 0.19 * (1.3 < z < 4)), dtype=torch.float64)

    z = 1 - float(AlieOptimised(evaluations=40).craft(ones(rule=Counted(krum_like))))
    assert 0.19 < z < 0.2


@pytest.mark.parametrize("refusal", [ValueError("n"), ArithmeticError("x"), None])
def test_skips_factors_to_which_the_rule_does_not_answer(refusal):
    def picky(updates):
        if float(updates[-1]) < -3:
            if refusal is None:
                return torch.full((1,), float("nan"), dtype=torch.float64)
            raise refusal
        return updates[-1]

    update = float(IpmOptimised(evaluations=60).craft(ones(rule=Counted(picky))))
    assert -3 <= update < -2.99

    def never(updates):
        if refusal is None:
            return torch.full((1,), float("inf"), dtype=torch.float64)
        raise refusal

    assert float(IpmOptimised().craft(ones(rule=Counted(never)))) == -0.1
    plain = float(AlieOptimised().craft(ones(n=9, m=4, rule=Counted(never))))
    assert plain == pytest.approx(1 - z_max(9, 4))


def test_infeasible_rules_and_rules_not_granted():
    rows = honest(0, k=4)
    too_few = view(rows, n=6, m=2, rule=deployed(Krum(f=2)))
    assert torch.equal(IpmOptimised().craft(too_few), Ipm().craft(too_few))
    for attack in OPTIMISED:
        with pytest.raises(NotGranted):
            attack.craft(view(rows))


def test_those_not_seen_are_taken_to_be_like_those_seen():
    """A group of 3 that sees itself alone plays a rule that needs 20 updates."""
    rows = honest(0, k=3)
    rule = Counted(deployed(Krum(f=3)))
    update = AlieOptimised(knowledge="group").craft(view(rows, n=20, m=3, rule=rule))
    asked = rule.asked[0].numpy()
    assert asked.shape == (20, 30)
    np.testing.assert_array_equal(asked[:17], rows[np.arange(17) % 3])
    assert torch.isfinite(update).all()


# All of them

ALL = [*PLAIN, *MOVED, *OPTIMISED]
FLOATS = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_finite_view_gives_one_finite_update_and_is_left_alone(data):
    k, d = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    scale = data.draw(st.sampled_from([0.0, 1e-18, 1e-6, 1, 1e30]))
    values = data.draw(st.lists(FLOATS, min_size=k * d, max_size=k * d))
    rows = scale * np.array(values).reshape(k, d)
    if data.draw(st.booleans()):
        rows[:] = rows[0]
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    n = data.draw(st.integers(1, 8))
    seen = view(rows, n=n, m=data.draw(st.integers(1, n)), rule=deployed(Median()), dtype=dtype)
    before = seen.seen.clone(), seen.own.clone()
    for attack in ALL:
        update = attack.handed_over(seen)
        assert update.dtype == dtype
        assert torch.isfinite(update).all()
        assert torch.equal(update, attack.handed_over(seen))
        assert torch.equal(seen.seen, before[0])
        assert torch.equal(seen.own, before[1])
        update.fill_(7)
        assert torch.equal(seen.seen, before[0])


@pytest.mark.parametrize("attack", [a for a in ALL if not a.kind.startswith("ipm")], ids=name)
def test_who_sees_its_own_update_alone_hands_it_over(attack):
    """With nobody benign there is nothing to hide among, and nothing to move away from."""
    row = honest(4, k=1)
    alone = view(row, n=1, m=1, rule=deployed(Median()))
    np.testing.assert_array_equal(attack.craft(alone), row[0])


def test_a_value_beyond_the_range_of_the_dtype_is_its_largest():
    seen = view(np.full((3, 2), 1e38), dtype=torch.float32)
    update = Ipm(epsilon=1e6).handed_over(seen)
    assert torch.equal(update, torch.full((2,), torch.finfo(torch.float32).min))


def test_columns_are_treated_alike_whatever_their_number(monkeypatch):
    rows = honest(6, d=50)
    seen = view(rows, rule=deployed(TrimmedMean(f=M)))
    whole = [attack.craft(seen).numpy() for attack in ALL]
    monkeypatch.setattr("clients.update_attacks.parts.moments.COLUMNS", 7)
    parts = [attack.craft(seen).numpy() for attack in ALL]
    np.testing.assert_allclose(whole, parts, rtol=1e-7, atol=1e-9)


def test_they_are_found_and_say_where_their_numbers_come_from():
    found = discover(type(PLAIN[0]).__mro__[1], "clients.update_attacks")
    for attack in {type(a) for a in ALL}:
        assert found[attack().kind] is attack
        assert attack.paper
        assert attack().knows_rule == attack().kind.endswith("_optimised")
        for field, info in attack.model_fields.items():
            if field != "kind":
                assert info.description
                assert info.json_schema_extra["origin"] in {"paper", "code", "deduced", "ours"}
    granted = {type(a): a.grant for a in ALL}
    assert granted.pop(Alie) == "group"
    assert set(granted.values()) == {"honest"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ipm(epsilon=0),
        lambda: Alie(knowledge="own"),
        lambda: Alie(z=float("nan")),
        lambda: MinMax(tolerance=0),
        lambda: MinSum(bound="mean"),
        lambda: Mimic(pick="last"),
        lambda: AlieOptimised(evaluations=5),
        lambda: IpmOptimised(most=0),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ValidationError):
        make()
