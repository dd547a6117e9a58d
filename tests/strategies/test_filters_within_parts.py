"""Filters before agent indexing: played on all rows, or within each agent's part."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from learning.models.mlp import MLP
from learning.optimizers.sgd import SGD
from learning.pool import DEFENDER, Block
from learning.training.engine.engine import Engine, Recipe
from learning.training.spec import ComputeSpec, TrainingSpec
from scenarios.loader import parse
from scenarios.text.errors import ScenarioError
from strategies.augmentation.agent_augmentation import AgentAugmentation
from strategies.filtering.inverse_self_paced import InverseSelfPaced
from strategies.filtering.loss_defence import LossDefence
from strategies.filtering.sever import Sever
from strategies.filtering.spectral_signatures import SpectralSignatures
from strategies.indexing.agent_indexing import AgentIndexing
from strategies.pipeline import defend
from strategies.together import play_together

AGENTS = ("ada", "bob", "cyd", "dan", "eve")


def replaced(pool, agent):
    """The pool in which an agent hands over other rows: canaries, bright and all of one class."""
    old = pool.block(agent)
    x = np.ones_like(old.x) * np.linspace(0.5, 1, len(old.y), dtype=np.float32)[:, None, None, None]
    return pool.with_block(Block(agent, old.first_id, x, np.full_like(old.y, 2)))


def trained(defences, pool, defender, asked=AGENTS):
    spec = TrainingSpec(epochs=2, batch_size=16, optimizer=SGD(lr=0.3))
    compute = ComputeSpec(device="cpu", threads=1)
    engine = Engine(Recipe(MLP(hidden=(6,)), (1, 4, 4), 3, spec, compute, 5))
    plays = {"it": defend(defences, pool, defender, asked)}
    return play_together(plays, engine.train)["it"]


def weights(predictor, agent):
    (model,) = predictor.by_agent[agent]
    return [value.clone() for value in model.module.state_dict().values()]


def same_bytes(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


FILTERS = [
    (LossDefence(share=0.1),),
    (SpectralSignatures(expected_poison=0.1), LossDefence(share=0.1)),
    (Sever(share=0.05, rounds=2), AgentAugmentation(agents=3, poison_rate=0.5)),
]


@pytest.mark.parametrize("before", FILTERS, ids=lambda some: "+".join(one.kind for one in some))
def test_within_parts_an_agents_rows_do_not_reach_its_own_model(pool, defender, before):
    """Canaries in place of all its rows leave the model that answers it byte for byte the same."""
    line = (*before, AgentIndexing(filters="within_parts"))
    one = trained(line, pool, defender).predictor
    for agent in AGENTS[:3]:
        other = trained(line, replaced(pool, agent), defender, (agent,)).predictor
        assert same_bytes(weights(one, agent), weights(other, agent))
        assert not same_bytes(  # the canaries do reach the model of everybody
            list(one.shared[0].module.state_dict().values()),
            list(other.shared[0].module.state_dict().values()),
        )


def test_on_all_rows_they_do(pool, defender):
    """What docs/filters.md says of `filters: pool`: the verdict lets them in."""
    line = (LossDefence(share=0.1), AgentIndexing())
    one = trained(line, pool, defender).predictor
    changed = [
        not same_bytes(
            weights(one, agent),
            weights(trained(line, replaced(pool, agent), defender, (agent,)).predictor, agent),
        )
        for agent in AGENTS
    ]
    assert sum(changed) >= 3


def test_a_part_is_filtered_as_if_it_were_the_pool(play, pool, defender):
    rule = LossDefence(share=0.1)
    outcome = play(defend((rule, AgentIndexing(filters="within_parts")), pool, defender, AGENTS))
    final = play.jobs[-6:]
    assert play.requests == 3  # the filter, all parts' filters together, all models together
    everybody = play(rule.inspect(pool, defender)).removed
    assert outcome.verdicts[0][1].removed.tolist() == everybody.tolist()
    assert final[0].pool.ids.tolist() == np.setdiff1d(pool.ids, everybody).tolist()
    for agent, job in zip(AGENTS, final[1:], strict=True):
        part = pool.without_owner(agent)
        gone = play(rule.inspect(part, defender)).removed
        assert job.pool.ids.tolist() == np.setdiff1d(part.ids, gone).tolist()
    assert [note.startswith("filters were played anew for each of 5 agents'") for note in
            outcome.predictor.notes] == [True]  # fmt: skip
    plain = play(defend((rule, AgentIndexing()), pool, defender, AGENTS))
    assert plain.predictor.notes == ()


class TakesAll(LossDefence):
    """Takes out every row of one agent's."""

    def inspect(self, pool, defender):
        (verdict,) = [(yield from super().inspect(pool, defender))]
        if "bob" not in pool.owners:
            return verdict
        return type(verdict)(pool.block("bob").ids, verdict.scored_ids, verdict.scores)


def test_an_agent_whose_rows_all_go_keeps_a_model_of_its_own(play, pool, defender):
    """Whether the filter takes all its rows depends on them: it must not decide who answers it."""
    line = (TakesAll(), AgentIndexing(filters="within_parts"))
    assert set(play(defend(line, pool, defender, AGENTS)).predictor.by_agent) == set(AGENTS)
    line = (TakesAll(), AgentIndexing())
    assert "bob" not in play(defend(line, pool, defender, AGENTS)).predictor.by_agent


def test_filters_of_many_stages_run_side_by_side(play, build, defender):
    pool = build.pool(rows={DEFENDER: 20, "ada": 8, "bob": 8})
    rule = InverseSelfPaced(rounds=2, runs=1, self_training_epochs=20, reference_rows=None)
    alone = play(defend((rule,), pool, defender, ()))
    stages, play.requests = play.requests, 0
    play(defend((rule, AgentIndexing(filters="within_parts")), pool, defender, ("ada", "bob")))
    assert play.requests <= 2 * stages
    assert alone.predictor.shared


def test_shortcuts_share_parts_and_are_refused():
    for method in ("tree", "shards"):
        with pytest.raises(ValidationError, match="within_parts needs method: exact"):
            AgentIndexing(method=method, filters="within_parts")


SCENARIO = """
name: parts
data: {kind: digits}
model: {kind: softmax}
agents: [{name: ada, count: 2, behaviour: {kind: benign}}]
defenders:
  index: [LIST{kind: agent_indexing, filters: within_parts}]
"""


def test_without_a_filter_before_it_the_field_would_do_nothing_and_is_refused():
    told = "expected a filter before it for filters: within_parts, got none"
    for before in ("", "{kind: agent_augmentation}, "):
        with pytest.raises(ScenarioError, match=told):
            parse(SCENARIO.replace("LIST", before), "parts.yaml")
    good = parse(SCENARIO.replace("LIST", "{kind: loss_defence}, "), "parts.yaml")
    assert good.defenders["index"][1].within_parts
