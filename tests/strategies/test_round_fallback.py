"""One round: the fallback of an infeasible rule, and what a rule's trust says of each agent."""

import numpy as np
import pytest
import torch

from learning.server_optimizers.fedavg import FedAvg
from learning.server_optimizers.fedavgm import FedAvgM
from strategies.aggregation.base import Context
from strategies.aggregation.centred_clipping import CentredClipping
from strategies.aggregation.fltrust import FLTrust
from strategies.aggregation.foolsgold import FoolsGold
from strategies.aggregation.krum import Krum
from strategies.aggregation.mean import Mean
from strategies.aggregation.norm_clipping import NormClipping
from strategies.aggregation.parts.buffers import Buffers
from strategies.aggregation.updates import Updates
from strategies.federated import DefencePipeline, ServerState, play_round
from strategies.preaggregation.nearest_neighbour_mixing import NearestNeighbourMixing

D = 6


def updates_of(rows, weights=None):
    rows = torch.as_tensor(np.asarray(rows), dtype=torch.float32)
    shares = torch.ones(len(rows)) if weights is None else torch.as_tensor(weights)
    return Updates(rows, shares.double(), tuple(f"a{k}" for k in range(len(rows))))


@pytest.fixture
def few():
    return updates_of(np.random.default_rng(3).normal(size=(4, D)), [1, 2, 3, 4])


def standing_of():
    buffers, memory = {"b": torch.zeros(1)}, {"memory": torch.ones(2)}
    return ServerState(torch.arange(D, dtype=torch.float32), buffers, memory)


def play(line, updates, fallback="skip", optimizer=None, context=None):
    optimizer = optimizer or FedAvg()
    context = context or Context()
    buffers = Buffers(updates.agents, {"b": torch.ones(len(updates), 1)})
    return play_round(
        DefencePipeline.of(line), standing_of(), updates, buffers, context, optimizer, fallback
    )


def test_by_default_an_infeasible_rule_leaves_everything_as_it_was(few):
    start = standing_of()
    result = play([Krum(f=1)], few)
    assert result.aggregate is None
    assert result.fallback == ""
    assert (
        result.note == "skipped: krum with f = 1 needs 2f + 3 = 5 contributions or more, but got 4"
    )
    assert torch.equal(result.standing.weights, start.weights)
    assert result.standing.buffers["b"].tolist() == [0.0]
    assert result.standing.step is None


@pytest.mark.parametrize("line", [[Krum(f=1)], [NearestNeighbourMixing(f=3), Mean()]])
def test_the_fallback_median_is_the_median_of_the_updates_as_they_came(line, few):
    result = play(line, few, "median")
    expected = standing_of().weights.double().numpy() + np.median(few.matrix.double(), axis=0)
    np.testing.assert_allclose(result.standing.weights, expected, atol=1e-6)
    assert result.fallback == "median"
    assert result.note.startswith("median instead: ")
    assert result.aggregate.selected is None
    assert result.weights is None
    assert result.standing.buffers["b"].tolist() == [1.0]


def test_the_fallback_keeps_the_rules_memory_and_takes_the_servers_step(few):
    result = play([Krum(f=1)], few, "median", FedAvgM(lr=0.5))
    assert torch.equal(result.standing.rule["memory"], torch.ones(2))
    moved = (result.standing.weights - standing_of().weights).double()
    np.testing.assert_allclose(moved, 0.5 * np.median(few.matrix.double(), axis=0), atol=1e-6)
    assert result.standing.step is not None


def test_one_update_that_is_left_is_its_own_median():
    result = play([Krum(f=0)], updates_of([[2.0] * D]), "median")
    assert result.standing.weights.tolist() == [2.0 + k for k in range(D)]


def test_a_feasible_rule_needs_no_fallback(few):
    chosen, same = (play([Krum(f=0)], few, fallback) for fallback in ("skip", "median"))
    assert torch.equal(chosen.standing.weights, same.standing.weights)
    assert same.fallback == ""


def test_an_aggregate_that_overflows_is_skipped_whatever_the_fallback():
    result = play([Krum(f=1)], updates_of([[3e38] * D] * 4), "median", None)
    assert result.fallback == "median"  # the median of equal updates is finite
    result = play([Mean()], updates_of([[np.inf] * D] * 4), "median")
    assert result.aggregate is None
    assert result.note.startswith("skipped: ")


def test_weights_of_a_rule_by_shares_are_its_clipping_factors_whatever_the_shares():
    rows = np.eye(D)[:4] * [[1.0], [2.0], [4.0], [8.0]]
    result = play([NormClipping(bound=2.0)], updates_of(rows, [9, 1, 5, 2]))
    np.testing.assert_allclose(result.weights, [1, 1, 0.5, 0.25], rtol=1e-6)


def test_weights_of_a_rule_without_shares_do_not_depend_on_them():
    rows = np.eye(D)[:4] * [[1.0], [2.0], [4.0], [8.0]]
    for shares in ([1, 1, 1, 1], [9, 1, 5, 2]):
        result = play([CentredClipping(radius=2.0)], updates_of(rows, shares))
        np.testing.assert_allclose(result.weights, [1, 1, 0.5, 0.25], rtol=1e-6)


def test_what_fltrust_and_foolsgold_do_not_trust_is_not_selected():
    rows = np.eye(D)[:4].copy()
    rows[3] = -rows[0]
    own = torch.tensor([1.0, 1, 1, 0, 0, 0])
    result = play([FLTrust()], updates_of(rows), context=Context(own=own))
    assert result.aggregate.selected.tolist() == [True, True, True, False]
    np.testing.assert_allclose(result.weights, [4 / 3, 4 / 3, 4 / 3, 0], rtol=1e-6)
    against = play([FLTrust()], updates_of(rows), context=Context(own=-own * 0))
    assert not against.aggregate.selected.any()
    twins = np.eye(D)[:4].copy()
    twins[3] = twins[2]
    result = play([FoolsGold()], updates_of(twins))
    assert result.aggregate.selected.tolist() == [True, True, False, False]


def test_a_rule_that_weighs_by_share_alone_judges_nobody(few):
    assert play([Mean()], few).weights is None
    assert play([Krum(f=0)], few).weights is None
