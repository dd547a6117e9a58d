import numpy as np
import pytest
from pydantic import ValidationError

from learning.pool import DEFENDER
from strategies.indexing.agent_indexing import AgentIndexing
from strategies.indexing.plan import rows_where

AGENTS = ("ada", "bob", "cyd", "dan", "eve")


def same(model, other):
    return np.allclose(model.module.head.numpy(), other.module.head.numpy(), atol=1e-9)


def owners_of(job):
    return {job.pool.owners[i] for i in np.unique(job.pool.owner_index)}


def test_exact_models_never_saw_their_agent_and_saw_everybody_else(play, pool, defender):
    predictor = play(AgentIndexing().predictor(pool, defender, (), AGENTS))
    assert play.requests == 1  # all models can be trained together
    assert same(predictor.shared[0], play.train(play.jobs[0]))
    np.testing.assert_array_equal(play.jobs[0].pool.ids, pool.ids)
    for agent, job in zip(AGENTS, play.jobs[1:], strict=True):
        np.testing.assert_array_equal(job.pool.ids, pool.without_owner(agent).ids)
        assert same(predictor.by_agent[agent][0], play.train(job))
    assert predictor.work == pytest.approx(1 + sum(1 - 12 / 100 for _ in AGENTS))


def test_asked_by_and_strangers(play, pool, defender):
    predictor = play(AgentIndexing().predictor(pool, defender, (), ("bob", "mia")))
    assert list(predictor.by_agent) == ["bob"]
    assert predictor.models("mia") == predictor.models(None) == predictor.shared
    assert predictor.models("bob") != predictor.shared


def test_an_agent_whose_rows_were_all_filtered_gets_the_shared_model(play, pool, defender):
    filtered = pool.without_rows(pool.block("cyd").ids)
    for method in ("exact", "tree", "shards"):
        predictor = play(AgentIndexing(method=method).predictor(filtered, defender, (), AGENTS))
        assert set(predictor.by_agent) == set(AGENTS) - {"cyd"}


@pytest.mark.parametrize("asked", [AGENTS, ("dan",), ("eve", "ada")])
def test_tree_without_replay_equals_exact_for_an_additive_learner(play, pool, defender, asked):
    exact = play(AgentIndexing().predictor(pool, defender, (), asked))
    method = AgentIndexing(method="tree", replay=0.0)
    grown = play(method.predictor(pool, defender, (), asked))
    assert set(grown.by_agent) == set(asked)
    for agent in asked:
        assert same(grown.by_agent[agent][0], exact.by_agent[agent][0])
    assert same(grown.shared[0], exact.shared[0])


@pytest.mark.parametrize("count", [1, 2, 3, 16, 33])
def test_tree_paths_never_see_the_agent_and_cost_log_n(play, build, count):
    agents = tuple(f"agent-{i}" for i in range(count))
    pool = build.pool({DEFENDER: 20, **dict.fromkeys(agents, 4)})
    defender = build.defender(agents=agents)
    predictor = play(
        AgentIndexing(method="tree", passes=1.0, replay=0.5).predictor(pool, defender, (), agents)
    )
    assert set(predictor.by_agent) == set(agents)
    levels = int(np.ceil(np.log2(count))) if count > 1 else 0
    assert play.requests == levels + 2
    share = 4 * count / len(pool)
    assert predictor.work <= 1 + (1 - share) + 1.5 * levels * share + 1e-9


def test_tree_leaves_descend_from_models_without_their_agent(play, pool, defender):
    method = AgentIndexing(method="tree", passes=0.2, replay=1.0)
    saw = {}
    play_again = type(play)()
    train = play_again.train

    def record(job):
        model = train(job)
        saw[model] = owners_of(job) | (saw[job.start] if job.start else set())
        return model

    play_again.train = record
    predictor = play_again(method.predictor(pool, defender, (), AGENTS))
    for agent in AGENTS:
        assert saw[predictor.by_agent[agent][0]] == {DEFENDER, *AGENTS} - {agent}
    assert all(job.epochs == 2 for job in play_again.jobs[1:])


def test_tree_is_the_same_whoever_asks(play, pool, defender):
    method = AgentIndexing(method="tree")
    everybody = play(method.predictor(pool, defender, (), AGENTS))
    alone = play(method.predictor(pool, defender, (), ("bob",)))
    assert same(everybody.by_agent["bob"][0], alone.by_agent["bob"][0])
    assert alone.work < everybody.work


def test_tree_without_defender_rows_starts_at_its_first_rows(play, pool, defender):
    agents_only = pool.without_owner(DEFENDER)
    method = AgentIndexing(method="tree", replay=0.0)
    grown = play(method.predictor(agents_only, defender, (), AGENTS))
    exact = play(AgentIndexing().predictor(agents_only, defender, (), AGENTS))
    for agent in AGENTS:
        assert same(grown.by_agent[agent][0], exact.by_agent[agent][0])


def test_shards_partition_the_pool_and_retrain_one_member(play, pool, defender):
    method = AgentIndexing(method="shards", shards=2)
    predictor = play(method.predictor(pool, defender, (), AGENTS))
    first, second, *again = play.jobs
    assert sorted([*first.pool.ids, *second.pool.ids]) == pool.ids.tolist()
    for job in (first, second):
        assert np.sum(job.pool.owner_index == job.pool.owners.index(DEFENDER)) == 20
    assert (owners_of(first) & owners_of(second)) == {DEFENDER}
    for agent, job in zip(AGENTS, again, strict=True):
        home = first if agent in owners_of(first) else second
        np.testing.assert_array_equal(job.pool.ids, home.pool.without_owner(agent).ids)
        kept = predictor.shared[1 if home is first else 0]
        assert predictor.by_agent[agent][0] is kept
        assert same(predictor.by_agent[agent][1], play.train(job))
    assert predictor.work == pytest.approx(1 + sum(len(job.pool) for job in again) / 100)


def test_more_shards_than_contributors(play, build):
    agents = ("ada", "bob")
    pool = build.pool({"ada": 5, "bob": 6})
    method = AgentIndexing(method="shards", shards=9)
    predictor = play(method.predictor(pool, build.defender(agents=agents), (), agents))
    assert len(predictor.shared) == 2
    assert len(predictor.by_agent["ada"]) == 1
    assert same(predictor.by_agent["ada"][0], predictor.shared[1]) or same(
        predictor.by_agent["ada"][0], predictor.shared[0]
    )


@pytest.mark.parametrize("method", ["exact", "tree", "shards"])
def test_one_contributor_alone_is_a_clear_error(play, build, method):
    pool = build.pool({"ada": 5})
    with pytest.raises(ValueError, match="expected rows of others than 'ada'"):
        play(AgentIndexing(method=method).predictor(pool, build.defender(), (), ("ada",)))


def test_shortcuts_name_themselves(play, pool, defender):
    for method in ("tree", "shards"):
        notes = play(AgentIndexing(method=method).predictor(pool, defender, (), AGENTS)).notes
        assert f"shortcut `{method}`" in notes[0]
    assert play(AgentIndexing().predictor(pool, defender, (), AGENTS)).notes == ()


def test_unknown_index_trains_for_everybody_who_may_be_guessed(play, pool, defender):
    predictor = play(AgentIndexing(index="unknown").predictor(pool, defender, (), ("ada",)))
    assert set(predictor.by_agent) == set(AGENTS)
    assert set(predictor.guesser.guess(pool.x[:30])) <= set(AGENTS)


def test_sub_pool_of_any_rows(pool, defender):
    keep = defender.numpy_generator("test").random(len(pool)) < 0.3
    part = rows_where(pool, keep)
    np.testing.assert_array_equal(part.ids, pool.ids[keep])
    np.testing.assert_array_equal(part.x, pool.x[keep])
    assert len(rows_where(pool, np.zeros(len(pool), bool))) == 0


def test_fields_that_would_not_be_read_are_refused():
    with pytest.raises(ValidationError, match="shards is read with method: shards only"):
        AgentIndexing(shards=2)
    with pytest.raises(ValidationError, match="similarity is read with index: unknown only"):
        AgentIndexing(similarity="mmd")
    assert AgentIndexing(method="shards", shards=2).shards == 2
