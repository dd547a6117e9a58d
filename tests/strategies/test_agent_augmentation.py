import numpy as np
import pytest

from learning.pool import DEFENDER
from learning.seeds import derived_seed
from learning.triggers.base import TriggerKey
from learning.triggers.random_badnet import RandomBadNet
from server.games.federated import _augmented
from strategies.augmentation.agent_augmentation import AgentAugmentation
from strategies.federated import DefencePipeline
from strategies.pipeline import defend


def changed_rows(before, after):
    return np.flatnonzero((before.x != after.x).any(axis=(1, 2, 3)))


def test_defaults_are_the_papers_sixty_percent():
    assert AgentAugmentation().share == 0.6
    assert AgentAugmentation().trigger == RandomBadNet(epsilon=0.2)


def test_only_defender_rows_change_and_labels_and_ids_stay(play, pool, defender):
    method = AgentAugmentation(agents=4, trigger=RandomBadNet(epsilon=0.5))
    after = play(method.augment(pool, defender))
    assert play.jobs == []
    np.testing.assert_array_equal(after.ids, pool.ids)
    np.testing.assert_array_equal(after.y, pool.y)
    assert after.owners == pool.owners
    own, new = pool.block(DEFENDER), after.block(DEFENDER)
    assert len(changed_rows(own, new)) == 24  # 60 % of 40
    for block in pool.blocks[1:]:
        assert after.block(block.owner) is block


def test_each_simulated_agent_has_an_equal_part_and_its_own_trigger(play, pool, defender):
    method = AgentAugmentation(agents=4, trigger=RandomBadNet(epsilon=0.5))
    after = play(method.augment(pool, defender))
    own, new = pool.block(DEFENDER), after.block(DEFENDER)
    rows = changed_rows(own, new)
    counts = []
    for index in range(4):
        name = f"defender/sim-{index + 1:03d}"
        key = TriggerKey(defender.seed, name, "defender/sim", 10_000_000 + index)
        pattern = method.trigger.draw(defender.shape, 1, key)
        stamped = pattern.stamp(own.x[rows])
        counts.append(int((stamped == new.x[rows]).all(axis=(1, 2, 3)).sum()))
    assert counts == [6, 6, 6, 6]


def test_poison_rate_reads_the_paper_the_other_way(play, pool, defender):
    method = AgentAugmentation(agents=2, poison_rate=0.25, trigger=RandomBadNet(epsilon=0.9))
    after = play(method.augment(pool, defender))
    assert len(changed_rows(pool.block(DEFENDER), after.block(DEFENDER))) == 6  # 2 x 0.25 x 12


def test_removed_rows_are_not_chosen(play, pool, defender):
    own = pool.block(DEFENDER)
    filtered = pool.without_rows(own.ids[:30])
    method = AgentAugmentation(share=1.0, agents=3, trigger=RandomBadNet(epsilon=0.9))
    after = play(method.augment(filtered, defender))
    assert changed_rows(own, after.block(DEFENDER)).tolist() == list(range(30, 40))
    assert after.removed == filtered.removed


def test_more_agents_than_rows(play, pool, defender):
    after = play(AgentAugmentation(agents=500).augment(pool, defender))
    assert len(changed_rows(pool.block(DEFENDER), after.block(DEFENDER))) <= 24


def test_a_trigger_drawn_by_position_is_never_a_real_agents(play, pool, defender):
    trigger = RandomBadNet(epsilon=0.5, stream="legacy")
    after = play(AgentAugmentation(agents=1, trigger=trigger).augment(pool, defender))
    own, new = pool.block(DEFENDER), after.block(DEFENDER)
    rows = changed_rows(own, new)
    for position in range(50):
        pattern = trigger.draw(defender.shape, 1, TriggerKey(0, "x", "y", position))
        assert not (pattern.stamp(own.x[rows]) == new.x[rows]).all()


@pytest.mark.parametrize("case", ["no block", "all filtered"])
def test_a_defender_without_rows_is_a_clear_error(play, pool, defender, case):
    if case == "no block":
        pool = pool.without_owner(DEFENDER)
    else:
        pool = pool.without_rows(pool.block(DEFENDER).ids)
    with pytest.raises(ValueError, match="defender_share above 0"):
        play(AgentAugmentation().augment(pool, defender))


def test_seeds_of_the_defender_do_not_give_away_the_games():
    seeds = {derived_seed(game, purpose) for game in range(100) for purpose in ("a", "b")}
    assert len(seeds) == 200
    assert seeds.isdisjoint(range(100))
    assert max(seeds) < 2**63


def stamped(play, build, defender, rows, **fields):
    pool = build.pool(rows={DEFENDER: rows, "ada": 3})
    method = AgentAugmentation(trigger=RandomBadNet(epsilon=0.9), **fields)
    after = play(method.augment(pool, defender))
    changed = len(changed_rows(pool.block(DEFENDER), after.block(DEFENDER)))
    return changed, method.remarks(pool, after)


@pytest.mark.parametrize(
    ("rows", "share", "rate", "asked"),
    [
        (40, 0.5, 0.4, 8),  # twenty parts of one row: 0 when each part was rounded by itself
        (20, 0.6, 0.2, 2),
        (100, 0.6, 0.2, 12),  # twenty parts of three rows: 20
        (10, 0.5, 0.5, 3),  # halves up
        (100, 0.6, 1.0, 60),
    ],
)
def test_what_is_asked_in_all_is_stamped_in_all(play, build, defender, rows, share, rate, asked):
    changed, remarks = stamped(play, build, defender, rows, share=share, poison_rate=rate)
    assert changed == asked
    idle = max(0, 20 - asked)
    wanted = (
        f"augmentation: the rate stamps {asked} of the defender's rows, so that {idle} of 20 "
        "triggers lie on none"
    )
    assert remarks == ((wanted,) if idle else ())


@pytest.mark.parametrize("fields", [{"share": 0.0}, {"poison_rate": 0.0}])
def test_nothing_is_said_where_nothing_was_asked(play, build, defender, fields):
    assert stamped(play, build, defender, 40, **fields) == (0, ())


def test_a_trigger_that_covers_nothing_is_said(play, pool, defender):
    method = AgentAugmentation(agents=2, trigger=RandomBadNet(epsilon=0.0))
    after = play(method.augment(pool, defender))
    assert method.remarks(pool, after) == (
        "augmentation: 24 of 24 stamped rows look as they did: their trigger covers no pixel",
    )


@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_the_report_is_told_in_either_game(play, pool, defender, rate):
    """It stands among the defender's notes; where all triggers lie on rows there is none."""
    method = AgentAugmentation(agents=12, poison_rate=rate, trigger=RandomBadNet(epsilon=0.9))
    outcome = play(defend((method,), pool, defender, ()))
    assert [
        note.startswith("augmentation: the rate stamps 1 of") for note in outcome.predictor.notes
    ] == ([True] if rate < 1 else [])
    line = DefencePipeline.of((method,))
    _, remarks = _augmented(line, pool.only_owners([DEFENDER]), defender)
    assert remarks == outcome.predictor.notes
