"""Pre-aggregation: each step against plain loops, and chains of steps with a rule."""

import aggregation_oracles as oracle
import numpy as np
import pytest
import torch
from found_methods import check_source
from found_rules import example
from pydantic import ValidationError

from learning.method import discover
from strategies.aggregation.base import Context, Infeasible, PreAggregator
from strategies.aggregation.krum import Krum
from strategies.aggregation.mean import Mean
from strategies.aggregation.median import Median
from strategies.aggregation.multi_krum import MultiKrum
from strategies.aggregation.parts import chain
from strategies.aggregation.updates import Updates
from strategies.conformance.aggregation import check_preaggregator
from strategies.preaggregation.bucketing import Bucketing
from strategies.preaggregation.nearest_neighbour_mixing import NearestNeighbourMixing

STEPS = discover(PreAggregator, "strategies.preaggregation")
# Fields, the same in plain float64, and the fewest contributions.
TABLE = {
    "nearest_neighbour_mixing": ({"f": 2}, lambda r: oracle.nearest_neighbour_mixing(r, 2), 5),
    "bucketing": ({"s": 3}, None, 1),  # random: see below
    "static_clipping": ({"bound": 2.0}, lambda r: np.array([oracle.clip(x, 2.0) for x in r]), 1),
    "adaptive_clipping": ({"f": 2}, lambda r: oracle.adaptive_clipping(r, 2), 5),
}
CASES = [
    pytest.param(STEPS[kind](**fields), wanted, least, id=kind)
    for kind, (fields, wanted, least) in TABLE.items()
    if kind in STEPS
]


def updates_of(rows, dtype=torch.float64, round=1):
    n = len(rows)
    weights = torch.arange(1, n + 1, dtype=torch.float64)
    return Updates(
        torch.tensor(rows, dtype=dtype), weights, tuple(f"a{at}" for at in range(n)), round
    )


def made(updates):
    return updates.some(torch.arange(updates.width)).numpy()


def rows_of(seed, n=9, d=12):
    draws = np.random.default_rng(seed)
    return draws.standard_normal((n, d)) * np.exp(draws.standard_normal((n, 1)))


def test_the_oracles_are_of_steps_that_exist():
    assert set(TABLE) <= set(STEPS)


@pytest.mark.parametrize("kind", sorted(STEPS))
def test_a_step_without_an_oracle_here_keeps_the_promises_of_all(kind):
    """A new step is found by its file; what it computes is its own test's."""
    if kind in TABLE:
        pytest.skip("the tests below ask more")
    check_preaggregator(example(STEPS[kind], 1))


@pytest.mark.parametrize("kind", sorted(STEPS))
def test_a_step_names_its_paper_and_the_origin_of_its_numbers(kind):
    check_source(STEPS[kind])


@pytest.mark.parametrize(("step", "wanted", "least"), CASES)
def test_a_step_survives_json_and_refuses_unknown_fields(step, wanted, least):
    assert type(step).model_validate_json(step.model_dump_json()) == step
    with pytest.raises(ValidationError):
        type(step).model_validate(step.model_dump() | {"no_such_field": 1})


@pytest.mark.parametrize(("step", "wanted", "least"), [c for c in CASES if c.values[1]])
def test_it_makes_the_rows_of_the_paper_and_moves_with_their_order(step, wanted, least):
    for seed in range(100):
        rows = rows_of(seed, n=5 + seed % 6)
        given = updates_of(rows)
        before = given.matrix.clone()
        after = step.prepare(given, Context())
        np.testing.assert_allclose(made(after), wanted(rows), atol=1e-12)
        assert torch.equal(given.matrix, before)
        assert after.agents == given.agents
        assert torch.equal(after.weights, given.weights)
        order = np.random.default_rng(seed).permutation(len(rows))
        moved = step.prepare(updates_of(rows[order]), Context())
        np.testing.assert_allclose(made(moved), made(after)[order], atol=1e-12)


@pytest.mark.parametrize(("step", "wanted", "least"), CASES)
def test_it_announces_its_rows_and_refuses_too_few(step, wanted, least):
    for n in range(least, 12):
        assert step.infeasible(n) is None
        after = step.prepare(updates_of(rows_of(n, n)), Context())
        assert len(after) == step.rows(n) == len(made(after))
        assert float(after.weights.sum()) == n * (n + 1) / 2
    if least > 1:
        assert f"got {least - 1}" in step.infeasible(least - 1)
        with pytest.raises(Infeasible, match=step.kind):
            step.prepare(updates_of(rows_of(0, least - 1)), Context())


@pytest.mark.parametrize(("step", "wanted", "least"), CASES)
def test_it_passes_the_public_suite(step, wanted, least):
    check_preaggregator(step, permutation=wanted is not None)


@pytest.mark.parametrize("n", [1, 5, 6, 20])
def test_buckets_hold_each_agent_once_and_change_with_the_round(n):
    rows, seen = rows_of(n, n), set()
    for round in range(1, 5):
        after = Bucketing(s=2).prepare(updates_of(rows, round=round), Context(seed=4))
        members = [name.split("+") for name in after.agents]
        assert sorted(name for names in members for name in names) == sorted(
            updates_of(rows).agents
        )
        assert [len(m) for m in members[:-1]] == [2] * (n // 2 - (n % 2 == 0))
        places = [[updates_of(rows).agents.index(name) for name in m] for m in members]
        assert places == [sorted(at) for at in places]
        for row, names in zip(made(after), members, strict=True):
            np.testing.assert_allclose(row, rows[[int(name[1:]) for name in names]].mean(0))
        seen.add(after.agents)
        again = Bucketing(s=2).prepare(updates_of(rows, round=round), Context(seed=4))
        assert again.agents == after.agents
    assert len(seen) > 1 or n == 1


def test_copies_of_a_row_count_in_the_order_of_agents():
    rows = np.array([[0.0], [1.0], [-1.0], [1.0], [5.0]])
    after = NearestNeighbourMixing(f=2).prepare(updates_of(rows), Context())
    np.testing.assert_allclose(made(after)[0], [0.0])  # 0, 1 and -1: agent 1 comes before agent 3


@pytest.mark.parametrize("rule", [Krum(f=2), MultiKrum(f=2), Median(), Mean()])
@pytest.mark.parametrize("memory", [2**30, 4000])
def test_a_chain_answers_as_if_every_step_were_written_out(rule, memory):
    steps = [STEPS["adaptive_clipping"](f=2), NearestNeighbourMixing(f=2)]
    for seed in range(30):
        rows = rows_of(seed, d=101)
        context = Context(memory=memory)
        found = chain.aggregate(rule, steps, updates_of(rows), {}, context)
        clipped = oracle.adaptive_clipping(rows, 2)
        mixed = oracle.nearest_neighbour_mixing(clipped, 2)
        wanted = rule.aggregate(updates_of(mixed), {}, Context())
        np.testing.assert_allclose(found.update, wanted.update, atol=1e-10)
        if found.trust is not None:
            np.testing.assert_allclose(found.update, found.trust.numpy() @ rows, atol=1e-10)
            assert found.trust.shape == (9,)


def test_trust_and_selection_are_those_of_agents_not_of_buckets():
    rows = np.concatenate([np.full((12, 3), 1.0) + rows_of(1, 12, 3) * 1e-3, np.full((2, 3), 99.0)])
    found = chain.aggregate(
        MultiKrum(f=2, m=3), [Bucketing(s=2)], updates_of(rows), {}, Context(seed=1)
    )
    assert found.trust.shape == found.selected.shape == (14,)
    assert int(found.selected.sum()) == 6
    np.testing.assert_allclose(found.trust[found.selected], 1 / 6)
    assert not found.selected[12:].any()
    np.testing.assert_allclose(found.update, found.trust.numpy() @ rows)


def test_a_chain_without_steps_is_the_rule():
    given = updates_of(rows_of(0))
    one = chain.aggregate(Krum(f=1), [], given, {}, Context())
    other = Krum(f=1).aggregate(given, {}, Context())
    assert torch.equal(one.update, other.update)
    assert torch.equal(one.selected, other.selected)


class Doubling(PreAggregator):
    """A step of somebody else's that makes a new matrix."""

    def apply(self, updates, context):
        return Updates(2 * updates.matrix, updates.weights, updates.agents, updates.round)


def test_a_step_that_does_not_say_what_its_rows_are_made_of_leaves_no_trust():
    found = chain.aggregate(Mean(), [Doubling()], updates_of(rows_of(0)), {}, Context())
    assert found.trust is None
    plain = Mean().aggregate(updates_of(rows_of(0)), {}, Context())
    np.testing.assert_allclose(found.update, 2 * plain.update)


def test_a_chain_is_infeasible_where_the_rule_gets_too_few_rows():
    assert chain.infeasible(Krum(f=2), [], 7) is None
    assert chain.infeasible(Krum(f=2), [Bucketing(s=2)], 13) is None
    reason = chain.infeasible(Krum(f=2), [Bucketing(s=2)], 12)
    assert reason == "krum with f = 2 needs 2f + 3 = 7 contributions or more, but got 6"
    reason = chain.infeasible(Krum(f=2), [NearestNeighbourMixing(f=4)], 8)
    assert reason.startswith("nearest_neighbour_mixing with f = 4 needs 2f + 1 = 9")
