"""What every aggregation rule must do; a rule without an entry in the table fails the tests."""

import copy
from dataclasses import dataclass, replace

import aggregation_oracles as oracle
import numpy as np
import pytest
import torch
from found_methods import check_source
from found_rules import example
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.method import discover
from strategies.aggregation.base import Aggregator, Context, Infeasible
from strategies.aggregation.flame import majority
from strategies.aggregation.parts.gram import with_gram
from strategies.aggregation.updates import NotFinite, Updates
from strategies.conformance.aggregation import check_aggregator

RULES = discover(Aggregator, "strategies.aggregation")
EVERY = {"permutation", "translation", "scale", "fixed point"}
LINEAR = {"linear"}  # the update is the sum of the rows, each times its trust


@dataclass(frozen=True)
class Entry:
    """What holds for a rule with these fields.

    Attributes:
        fields: Its parameters; `f` malicious rows are the most that it is told.
        traits: What it promises, of the names that `check` knows.
        oracle: The same in plain float64, from rows and shares.
        least: Fewest contributions; one fewer is refused.
        tolerance: Of comparisons, in units of the largest value.
        narrowest: Fewest coordinates: directions in one or two are all alike.
    """

    fields: dict
    traits: set
    oracle: object
    least: int = 1
    tolerance: float = 1e-9
    narrowest: int = 1

    @property
    def f(self):
        return self.fields.get("f", 0)


def own(width):
    """The defender's own update."""
    return torch.linspace(0.5, 1.5, width, dtype=torch.float64)


def noise(purpose, rows):
    generator = Context(seed=3).generator(purpose, 1)
    return torch.randn(rows.shape[1], generator=generator, dtype=torch.float64).numpy()


def flame_cluster(rows):
    """The same clustering, on cosines taken one by one."""
    apart = [[1 - oracle.cosine(a, b) if a is not b else 0.0 for b in rows] for a in rows]
    return majority(torch.tensor(apart)).numpy()


TABLE = {
    "mean": [Entry({}, EVERY | LINEAR | {"hull", "mean"}, lambda r, w: oracle.mean(r, w))],
    "median": [Entry({}, EVERY | {"hull", "robust"}, lambda r, w: oracle.median(r))],
    "trimmed_mean": [
        Entry(
            {"f": 2}, EVERY | {"hull", "robust"}, lambda r, w: oracle.trimmed_mean(r, 2), least=5
        ),
        Entry({"f": 0}, EVERY | {"hull", "plain mean"}, lambda r, w: r.mean(0)),
    ],
    "krum": [
        Entry({"f": 2}, EVERY | LINEAR | {"member"}, lambda r, w: oracle.krum(r, 2), least=7),
    ],
    "multi_krum": [
        Entry({"f": 2}, EVERY | LINEAR | {"hull"}, lambda r, w: oracle.multi_krum(r, 2), least=7),
        Entry(
            {"f": 1, "m": 3},
            EVERY | LINEAR | {"hull"},
            lambda r, w: oracle.multi_krum(r, 1, 3),
            least=5,
        ),
        Entry({"f": 0}, EVERY | LINEAR | {"hull", "plain mean"}, lambda r, w: r.mean(0), least=3),
    ],
    "bulyan": [
        Entry({"f": 1}, EVERY | {"hull"}, lambda r, w: oracle.bulyan(r, 1), least=7),
        Entry({"f": 2}, EVERY | {"hull"}, lambda r, w: oracle.bulyan(r, 2), least=11),
        Entry({"f": 0}, EVERY | {"hull", "plain mean"}, lambda r, w: r.mean(0), least=3),
    ],
    "meamed": [
        Entry({"f": 2}, EVERY | {"hull"}, lambda r, w: oracle.mean_around_median(r, len(r) - 2), 5),
        Entry({"f": 0}, EVERY | {"hull", "plain mean"}, lambda r, w: r.mean(0)),
    ],
    "mda": [
        Entry({"f": 3}, EVERY | LINEAR | {"hull"}, lambda r, w: oracle.mda(r, 3), least=7),
        Entry({"f": 0}, EVERY | LINEAR | {"hull", "plain mean"}, lambda r, w: r.mean(0)),
    ],
    "geometric_median": [
        # Only nearly equivariant: the smoothing is a length.
        Entry(
            {"tolerance": 0.0, "smoothing": 1e-12},
            EVERY | LINEAR | {"hull"},
            lambda r, w: oracle.geometric_median(r, w, 1e-12),
            tolerance=1e-6,
        ),
    ],
    "centred_clipping": [
        Entry(
            {},
            {"permutation", "scale", "fixed point"} | LINEAR,
            lambda r, w: oracle.centred_clipping(r),
        ),
        Entry(
            {"radius": 0.4, "iterations": 3},
            {"permutation"} | LINEAR,
            lambda r, w: oracle.centred_clipping(r, None, 0.4, 3),
        ),
    ],
    "norm_clipping": [
        Entry({}, {"permutation", "scale", "fixed point"} | LINEAR, oracle.norm_clipping),
        Entry(
            {"bound": 0.5},
            {"permutation"} | LINEAR,
            lambda r, w: oracle.norm_clipping(r, w, 0.5),
        ),
        Entry({"bound": 1e9}, EVERY | LINEAR | {"mean"}, lambda r, w: oracle.mean(r, w)),
        Entry(
            {"bound": 0.5, "noise": 0.1},
            {"permutation"},
            lambda r, w: oracle.norm_clipping(r, w, 0.5) + 0.1 * noise("norm_clipping", r),
        ),
    ],
    # Punishes updates that are alike, and so has no fixed point.
    "foolsgold": [
        Entry({}, {"permutation", "scale", "hull or 0"} | LINEAR, lambda r, w: oracle.foolsgold(r)),
    ],
    # The defender's own update gives the scale and the origin.
    "fltrust": [
        Entry({}, {"permutation"}, lambda r, w: oracle.fltrust(r, own(r.shape[1]).numpy())),
    ],
    "flame": [
        Entry(
            {"noise": 0.0},
            {"permutation", "scale", "fixed point"} | LINEAR,
            lambda r, w: oracle.flame(r, flame_cluster(r)),
            narrowest=7,
        ),
        Entry(
            {"noise": 0.5},
            {"permutation", "scale"},
            lambda r, w: (
                oracle.flame(r, flame_cluster(r))
                + 0.5 * np.median(np.linalg.norm(r, axis=1)) * noise("flame", r)
            ),
            narrowest=7,
        ),
    ],
    "robust_learning_rate": [
        Entry(
            {"threshold": 3},
            {"permutation", "scale", "fixed point"},
            lambda r, w: oracle.robust_learning_rate(r, w, 3),
            least=3,
        ),
        Entry({"threshold": 0}, EVERY | {"hull", "mean"}, lambda r, w: oracle.mean(r, w)),
    ],
    "dnc": [
        Entry({"f": 2}, EVERY | LINEAR | {"hull"}, lambda r, w: oracle.dnc(r, 2), least=5),
        Entry(
            {"f": 3, "filtered": 1.5}, EVERY | LINEAR | {"hull"}, lambda r, w: oracle.dnc(r, 5), 7
        ),
        Entry({"f": 0}, EVERY | LINEAR | {"hull", "plain mean"}, lambda r, w: r.mean(0)),
    ],
}
CASES = [
    pytest.param(RULES[kind](**entry.fields), entry, id=f"{kind}-{at}")
    for kind, entries in TABLE.items()
    if kind in RULES
    for at, entry in enumerate(entries)
]


@pytest.mark.parametrize("kind", sorted(RULES))
def test_a_rule_without_an_oracle_here_keeps_the_promises_of_all(kind):
    """A new rule is found by its file; what it computes is its own test's."""
    if kind in TABLE:
        pytest.skip("test_it_keeps_its_promises asks more")
    check_aggregator(example(RULES[kind], 1))


def cases_with(trait):
    return [case for case in CASES if trait in case.values[1].traits]


def updates_of(rows, shares=None, dtype=torch.float64, round=1):
    n = len(rows)
    weights = torch.ones(n, dtype=torch.float64) if shares is None else torch.tensor(shares)
    names = tuple(f"agent {at}" for at in range(n))
    return Updates(torch.tensor(rows, dtype=dtype), weights.double(), names, round)


@st.composite
def rounds(draw, least, narrowest):
    """Rows of a round: honest ones around a common direction, and a few of all sorts."""
    n = draw(st.integers(least, least + 9))
    d = draw(st.sampled_from([d for d in (1, 2, 7, 33) if d >= narrowest]))
    draws = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draws.standard_normal((n, d)) * draw(st.sampled_from([1e-3, 1.0])) + draws.random(d)
    odd = draw(st.integers(0, (n - 1) // 3))
    rows[:odd] *= draw(st.sampled_from([-1.0, 1e-3, 30.0, 1e4]))  # no two alike: no ties
    shares = draws.random(n) + 0.05
    return rows[draws.permutation(n)].astype(np.float32).astype(np.float64), shares


def answer(rule, rows, shares, dtype=torch.float64):
    context = Context(seed=3, own=own(rows.shape[1]))
    return rule.aggregate(updates_of(rows, shares, dtype), {}, context)


def check(rule, entry, rows, shares, seed):
    """Check all that the rule promises on one round."""
    result = answer(rule, rows, shares)
    update, traits = result.update.numpy(), entry.traits
    draws = np.random.default_rng(seed)

    def close(one, other, size=None):
        one, other = np.asarray(one), np.asarray(other)
        size = np.abs(rows).max() if size is None else size
        np.testing.assert_allclose(one, other, rtol=0, atol=entry.tolerance * size)

    close(update, entry.oracle(rows, shares))
    if "permutation" in traits:
        order = draws.permutation(len(rows))
        moved = answer(rule, rows[order], shares[order])
        close(moved.update, update)
        if result.trust is not None:
            np.testing.assert_allclose(moved.trust, result.trust[order], atol=entry.tolerance)
    if "translation" in traits:
        by = draws.integers(-8, 9, rows.shape[1])
        close(answer(rule, rows + by, shares).update, update + by, np.abs(rows + by).max())
    if "scale" in traits:
        close(answer(rule, rows * 8, shares).update, update * 8, np.abs(rows * 8).max())
    if "hull" in traits or ("hull or 0" in traits and not result.notes):
        slack = 1e-12 * np.abs(rows).max()
        assert (update >= rows.min(0) - slack).all()
        assert (update <= rows.max(0) + slack).all()
    if "linear" in traits:
        close(update, result.trust.numpy() @ rows)
    if "member" in traits:
        (at,) = np.flatnonzero(result.selected)
        assert np.array_equal(update, rows[at])
    if "mean" in traits:
        close(update, shares @ rows / shares.sum())
    if "plain mean" in traits:
        close(update, rows.mean(0))
    if result.trust is not None:
        assert result.trust.shape == (len(rows),)
        assert result.trust.dtype == torch.float64
        assert float(result.trust.min()) >= 0
        assert float(result.trust.sum()) <= 1 + 1e-12
    if result.selected is not None:
        assert result.selected.dtype == torch.bool
        assert result.selected.shape == (len(rows),)
    if result.selected is not None and result.trust is not None:
        assert bool((result.trust[~result.selected] == 0).all())


def test_the_oracles_are_of_rules_that_exist():
    assert set(TABLE) <= set(RULES)


@pytest.mark.parametrize("kind", sorted(RULES))
def test_a_rule_names_its_paper_and_the_origin_of_its_numbers(kind):
    rule = RULES[kind]
    check_source(rule)


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_it_refuses_unknown_fields(rule, entry):
    with pytest.raises(ValidationError):
        type(rule)(**entry.fields, no_such_field=1)
    if "f" in entry.fields:
        with pytest.raises(ValidationError):
            type(rule)(**(entry.fields | {"f": -1}))


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_it_keeps_its_promises(rule, entry):
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(round=rounds(entry.least, entry.narrowest), seed=st.integers(0, 2**32 - 1))
    def promises(round, seed):
        check(rule, entry, *round, seed)

    promises()


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_it_passes_the_public_suite(rule, entry):
    """Which holds T47's fixed points, permutations, chunks, dtypes, states and draws."""
    numpy_state = copy.deepcopy(np.random.get_state()[1])
    permutation, idempotent = "permutation" in entry.traits, "fixed point" in entry.traits
    check_aggregator(rule, permutation=permutation, idempotent=idempotent)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize(("rule", "entry"), cases_with("robust"))
def test_malicious_rows_up_to_f_do_not_leave_the_honest_range(rule, entry):
    draws = np.random.default_rng(1)
    for trial in range(50):
        n = entry.least + 6
        f = entry.f if "f" in entry.fields else (n - 1) // 2
        rows = draws.standard_normal((n, 21))
        bad = draws.choice(n, f, replace=False)
        rows[bad] = draws.choice([-1e30, 1e30, 0, 3], (f, 21))
        honest = np.delete(rows, bad, axis=0)
        update = answer(rule, rows, np.ones(n)).update.numpy()
        assert (honest.min(0) <= update).all(), trial
        assert (update <= honest.max(0)).all(), trial


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_in_chunks_of_a_file_it_answers_the_same(rule, entry, tmp_path):
    n, d = entry.least + 5, 1003
    rows = np.random.default_rng(4).standard_normal((n, d)).astype(np.float32)
    mapped = np.memmap(tmp_path / "updates", np.float32, "w+", shape=rows.shape)
    mapped[:] = rows
    whole = rule.aggregate(updates_of(rows, dtype=torch.float32), {}, Context(seed=1, own=own(d)))
    memory = 24 * 2 * n * 100  # a hundred columns
    file = replace(updates_of(rows, dtype=torch.float32), matrix=torch.from_numpy(mapped))
    assert len(list(file.slices(memory))) == 11
    parts = rule.aggregate(file, {}, Context(seed=1, memory=memory, own=own(d)))
    torch.testing.assert_close(parts.update, whole.update, rtol=1e-6, atol=1e-7)
    if whole.selected is not None:
        assert torch.equal(parts.selected, whole.selected)


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_too_few_contributions_are_refused_in_one_line_with_the_numbers(rule, entry):
    assert rule.infeasible(entry.least) is None
    assert rule.infeasible(entry.least + 7) is None
    reason = rule.infeasible(entry.least - 1)
    if entry.least == 1:
        return
    assert "\n" not in reason
    for word in (rule.kind, f"got {entry.least - 1}", str(entry.least)):
        assert word in reason
    rows = np.ones((entry.least - 1, 3))
    with pytest.raises(Infeasible, match=rule.kind):
        rule.aggregate(updates_of(rows), {}, Context())


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_a_row_that_is_not_finite_never_gives_a_model_that_is_not(rule, entry, poison):
    rows = np.random.default_rng(5).standard_normal((entry.least + 4, 30))
    rows[3, 7] = poison
    try:
        result = rule.aggregate(updates_of(rows), {}, Context(own=own(30)))
    except NotFinite as error:
        assert "finite updates" in str(error)  # noqa: PT017 - a refusal is as good as an answer
    else:
        assert torch.isfinite(result.update).all()


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_one_gram_matrix_serves_the_aggregates_without_each_agent(rule, entry):
    rows = np.random.default_rng(7).standard_normal((entry.least + 4, 40))
    everyone, context = updates_of(rows), Context(own=own(40))
    known = with_gram(everyone, context.memory)
    for at, name in enumerate(everyone.agents):
        fewer = rule.aggregate(known.without([name]), {}, context).update
        rest = tuple(other for other in everyone.agents if other != name)
        fresh = Updates(torch.from_numpy(np.delete(rows, at, 0)), everyone.weights[1:], rest)
        wanted = rule.aggregate(fresh, {}, context).update
        torch.testing.assert_close(fewer, wanted, rtol=1e-6, atol=1e-6)


PLACEMENTS = 500


@pytest.mark.parametrize(("rule", "entry"), CASES)
def test_after_a_quarantine_the_aggregate_is_that_of_the_rest_bit_for_bit(rule, entry):
    draws = np.random.default_rng(6)
    for _ in range(-(-PLACEMENTS // len(CASES))):
        n, d = entry.least + int(draws.integers(2, 9)), int(draws.integers(1, 60))
        rows = draws.standard_normal((n, d)).astype(np.float32)
        shares = draws.random(n) + 0.1
        bad = np.sort(draws.choice(n, int(draws.integers(1, 3)), replace=False))
        hostile = rows.copy()
        hostile[bad, draws.integers(0, d)] = draws.choice([np.nan, np.inf, -np.inf, 3e38])
        everyone = updates_of(hostile, shares, torch.float32)
        rest = np.delete(np.arange(n), bad)
        clean = Updates(
            torch.from_numpy(rows[rest]),
            torch.from_numpy(shares[rest]),
            tuple(everyone.agents[at] for at in rest),
        )
        left = everyone.without([everyone.agents[at] for at in bad])
        one, other = (
            rule.aggregate(given, {}, Context(seed=9, own=own(d))) for given in (left, clean)
        )
        assert torch.equal(one.update, other.update)
        assert set(one.state) == set(other.state)
        assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
