"""Agents' scores, the cross-ASR matrix and groups against naive loops over rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from learning.metrics import asr_of_all
from server.referee.assembly import agent_scores, group_scores
from server.referee.facts import AgentFacts
from server.referee.results import AgentScores
from server.referee.scoring.agents import AgentAnswers, counted_hits
from server.referee.scoring.cross import LIMIT, cross_asr
from server.referee.scoring.scores import difference, share, summary
from server.referee.sealed import RunTimeSet

K = 4


def run_time(y, targets, **more):
    x = np.zeros((len(y), 1, 1, 1), np.float32)
    y, targets = np.asarray(y, np.int64), np.asarray(targets, np.int64)
    stamped = x[: len(targets)] + 1
    return RunTimeSet(more.pop("agent", "a"), x, y, stamped, targets, **more)


def classes(values):
    return np.asarray(values, np.int16)


def answered(clean, together, guessed=None, untrained=None, alone=None, part=None):
    """Return the answers of games that were trained once."""
    once = [None if some is None else some[None] for some in (untrained, alone)]
    return AgentAnswers(clean, together[None], guessed, *once, part)


def scored(own, answers, malicious):
    return agent_scores(AgentFacts(own, answers, malicious))


def naive(own, got, source):
    """Return hits and counts by the words of the scores' definitions, row by row."""
    tally = {name: [0, 0] for name in AgentScores.model_fields if name != "more"}

    def tell(name, hit):
        tally[name][0] += int(hit)
        tally[name][1] += 1

    for k in range(len(own.y)):
        tell("run_time_accuracy", got.clean[k] == own.y[k])
    rows = range(len(own.y)) if own.run_rows is None else own.run_rows.tolist()
    for k, row in enumerate(rows):
        label, target, stamped = int(own.y[row]), int(own.targets[k]), int(got.triggered[k])
        tell("asr_all", stamped == target)
        tell("robust_accuracy_all", stamped == label)
        if label == source:
            tell("asr_source", got.clean[row] == label and stamped == target)
        if label != target:
            tell("asr", stamped == target)
            tell("robust_accuracy", stamped == label)
            tell("asr_together", stamped == target)
            tell("asr_untrained", got.untrained[0, k] == target)
            tell("asr_alone", got.alone[0, k] == target)
            tell("asr_part", got.part[k] == target)
    return tally


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_a_loop_over_rows(seed):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 30))
    single = int(draw.integers(K)) if seed % 2 else None
    # Every third game has triggered versions of some rows only.
    rows = np.flatnonzero(draw.random(n) < 0.6) if seed % 3 == 0 else None
    k = n if rows is None else len(rows)
    targets = draw.integers(0, K, k) if single is None else np.full(k, single)
    own = run_time(draw.integers(0, K, n), targets, target=single, source=2, run_rows=rows)
    got = answered(classes(draw.integers(0, K, n)), classes(draw.integers(0, K, k)), k // 2,
                       *(classes(draw.integers(0, K, k)) for _ in range(3)))  # fmt: skip
    ours, oracle = scored(own, got, malicious=True), naive(own, got, 2)
    for name, (hits, count) in oracle.items():
        if name not in ("interference", "guess_accuracy", "clean_accuracy_alone"):
            assert (getattr(ours, name).hits, getattr(ours, name).count) == (hits, count), name
    gap = ours.interference
    assert gap.count == ours.asr.count
    if gap.count:
        assert gap.value == pytest.approx(ours.asr_alone.value - ours.asr.value)
        assert gap.low <= gap.value <= gap.high
    assert ours.guess_accuracy == share(k // 2, k)


def test_the_target_classs_own_rows_count_in_asr_all_only():
    own = run_time([3, 3, 3, 0], [3, 3, 3, 3], target=3)
    ours = scored(own, answered(classes([3, 3, 3, 0]), classes([3, 3, 3, 0])), True)
    assert (ours.asr.hits, ours.asr.count) == (0, 1)
    assert (ours.asr_all.hits, ours.asr_all.count) == (3, 4)
    assert (ours.robust_accuracy.hits, ours.robust_accuracy.count) == (1, 1)
    assert ours.robust_accuracy_all.value == 1


@pytest.mark.parametrize(
    ("rate", "all_"), [(0, 0.1), (0.1, 0.19), (0.5, 0.55), (0.9, 0.91), (1, 1)]
)
def test_asr_of_balanced_classes_hangs_together_with_asr_all(rate, all_):
    # check-values 4.7: ten classes, every target-class row is a hit (h = 1).
    y = np.repeat(np.arange(10), 10)
    answers = y.copy()
    for label in range(1, 10):
        answers[np.flatnonzero(y == label)[: round(10 * rate)]] = 0
    own = run_time(y, np.zeros(100), target=0)
    ours = scored(own, answered(classes(y), classes(answers)), True)
    assert ours.asr.value == pytest.approx(rate)
    assert ours.asr_all.value == pytest.approx(all_)
    assert ours.asr_all.value == pytest.approx(asr_of_all(ours.asr.value, 1.0, 10))


def test_who_has_no_backdoor_has_one_score():
    only = AgentScores(run_time_accuracy=share(1, 2))
    got = answered(classes([0, 1]), classes([]), 0, classes([]), classes([]))
    assert scored(run_time([0, 0], []), got, malicious=True) == only
    both = answered(classes([0, 1]), classes([1, 1]))
    assert scored(run_time([0, 0], [1, 1]), both, malicious=False) == only


def test_games_that_were_not_played_leave_no_score():
    ours = scored(run_time([0, 0], [1, 1]), answered(classes([0, 0]), classes([1, 0])), True)
    assert ours.asr.value == 0.5
    for name in ("asr_source", "asr_untrained", "asr_alone", "interference", "guess_accuracy"):
        assert getattr(ours, name) is None


def test_the_part_is_scored_on_the_inputs_that_asr_counts():
    # Targets 1; the third input's true label is the target, so that it counts in neither.
    own = run_time([0, 2, 1, 3], [1, 1, 1, 1], target=1, x_part=np.zeros((4, 1, 1, 1), np.float32))
    whole, part = classes([1, 1, 1, 0]), classes([1, 0, 1, 0])
    ours = scored(own, answered(whole, whole, part=part), True)
    assert (ours.asr.hits, ours.asr.count) == (2, 3)
    assert (ours.asr_part.hits, ours.asr_part.count) == (1, 3)
    other = scored(own, answered(whole, whole), True)
    assert other.asr_part is None
    hits = counted_hits(own, answered(whole, whole))
    assert group_scores([ours, other], [hits] * 2).asr_part == summary([ours.asr_part])
    assert group_scores([other], [hits]).asr_part is None
    with pytest.raises(ValueError, match=r"4 triggered inputs with a part .*got 1"):
        run_time([0, 2, 1, 3], [1, 1, 1, 1], x_part=np.zeros((1, 1, 1, 1), np.float32))


def test_rows_of_the_target_alone_leave_asr_without_a_value():
    got = answered(classes([1]), classes([1]), None, classes([1]), classes([1]))
    ours = scored(run_time([1], [1]), got, True)
    assert ours.asr.value is None
    assert (ours.asr.low, ours.asr.high) == (0, 1)
    assert ours.interference.value is None


def test_groups_are_means_over_agents_and_pools_over_inputs():
    one, two, none = share(1, 2), share(9, 10), share(0, 0)
    ours = summary([one, none, two, None])
    assert ours.mean == pytest.approx(0.7)
    assert ours.std == pytest.approx(np.std([0.5, 0.9], ddof=1))
    assert (ours.agents, ours.pooled) == (2, share(10, 12))
    empty = summary([])
    assert (empty.mean, empty.std, empty.agents, empty.pooled.count) == (None, None, 0, 0)


def test_group_interference_is_that_of_the_agents_played_alone():
    owns = [run_time([0] * 10, [1] * 10, agent=f"a{k}") for k in range(3)]
    hit, miss = classes([1] * 10), classes([0] * 10)
    got = [
        answered(miss, miss, alone=hit),
        answered(miss, hit),
        answered(miss, hit, alone=hit),
    ]
    agents = [scored(own, one, True) for own, one in zip(owns, got, strict=True)]
    hits = [counted_hits(own, one) for own, one in zip(owns, got, strict=True)]
    ours = group_scores(agents, hits)
    assert ours.asr.mean == pytest.approx(2 / 3)
    assert (ours.asr_alone.agents, ours.asr_alone.mean) == (2, 1)
    assert (ours.interference.value, ours.interference.count) == (0.5, 20)
    assert ours.interference == difference([(hits[k].alone, hits[k].together) for k in (0, 2)])
    assert ours.asr_untrained is None
    assert group_scores(agents[1:2], hits[1:2]).comparison is None


def test_a_comparison_is_of_the_same_agents_throughout_and_adds_up():
    # Audit A4, A5: asr of all three agents stood beside alone and interference of two of them.
    draw = np.random.default_rng(3)
    owns = [run_time(draw.integers(0, K, n), [1] * n, agent=f"a{n}") for n in (5, 12, 30)]
    got = [
        AgentAnswers(
            classes(draw.integers(0, K, n)),
            *(classes(draw.integers(0, K, (3, n))) for _ in range(1)),
            untrained=classes(draw.integers(0, K, (3, n))),
            alone=None if n == 12 else classes(draw.integers(0, K, (3, n))),
        )
        for n in (5, 12, 30)
    ]
    agents = [scored(own, one, True) for own, one in zip(owns, got, strict=True)]
    ours = group_scores(agents, [counted_hits(o, g) for o, g in zip(owns, got, strict=True)])
    found = ours.comparison
    counted = [own.counted.sum() for own in owns]
    assert (found.agents, found.of, found.trainings) == (2, 3, 3)
    count = counted[0] + counted[2]
    assert {s.count for s in (found.together, found.alone, found.untrained)} == {count}
    for gap, one, two in (
        (found.interference, found.alone, found.together),
        (found.alone_effect, found.alone, found.untrained),
        (found.together_effect, found.together, found.untrained),
    ):
        assert gap.value == pytest.approx(one.value - two.value)
        assert (gap.count, gap.trainings) == (count, 3)
    hits = sum((got[k].alone == 1)[:, owns[k].counted].sum() / 3 for k in (0, 2))
    assert found.alone.hits == pytest.approx(hits)
    assert agents[1].asr_alone is None
    assert agents[0].interference.value == pytest.approx(
        agents[0].asr_alone.value - agents[0].asr_together.value
    )
    assert (ours.effect.count, ours.asr.agents) == (sum(counted), 3)


def test_cross_asr_is_that_of_a_loop_over_rows():
    draw = np.random.default_rng(0)
    owns = [run_time(draw.integers(0, K, 12), [t] * 12, target=t, agent=f"a{t}") for t in (1, 3, 0)]
    owns.insert(1, run_time([0, 1], [2, 3], agent="many targets"))
    answers = {own.agent: classes(draw.integers(0, K, len(own.y))) for own in owns}
    ours = cross_asr(owns, answers, K)
    assert (ours.agents, ours.targets) == (("a1", "a3", "a0"), (1, 3, 0))
    for name, row in zip(ours.agents, ours.matrix, strict=True):
        (own,) = [one for one in owns if one.agent == name]
        for target, value in zip(ours.targets, row, strict=True):
            rows = [k for k in range(12) if own.y[k] != target]
            assert value == pytest.approx(np.mean([answers[name][k] == target for k in rows]))
        asr = scored(own, answered(answers[name], answers[name]), True).asr.value
        assert row[ours.targets.index(own.target)] == pytest.approx(asr)


def test_some_rows_of_many_are_scored_by_their_own_labels():
    # Rows 1 and 3 are asked; row 3's true label is the target. Other rows play no part.
    own = run_time([1, 0, 1, 1, 2], [1, 1], target=1, source=0, run_rows=np.array([1, 3]))
    clean, asked = classes([0, 0, 0, 0, 0]), classes([1, 1])
    ours = scored(own, answered(clean, asked, alone=classes([0, 1])), True)
    assert ours.run_time_accuracy == share(1, 5)
    assert (ours.asr, ours.asr_all, ours.asr_source) == (share(1, 1), share(2, 2), share(1, 1))
    assert (ours.robust_accuracy, ours.robust_accuracy_all) == (share(0, 1), share(1, 2))
    assert (ours.interference.value, ours.interference.count) == (-1, 1)
    two = run_time([0, 0, 3], [3], target=3, agent="b", run_rows=np.array([2]))
    matrix = cross_asr([own, two], {"a": asked, "b": classes([1])}, K).matrix
    assert matrix == ((1.0, 0.0), (1.0, None))


def test_a_backdoor_without_a_trigger_has_no_asr_source():
    # What is right when clean cannot be the target when unchanged.
    own = run_time([0, 0, 2], [1], target=1, source=0, run_rows=np.array([1]))
    own = dataclasses.replace(own, x_triggered=own.x[[1]])
    ours = scored(own, answered(classes([0, 1, 2]), classes([1])), True)
    assert ours.asr == share(1, 1)
    assert ours.asr_source is None


def test_cross_asr_needs_two_single_targets_and_stops_at_its_limit():
    one = run_time([0, 1], [1, 1], target=1, agent="one")
    two = run_time([1, 1], [0, 0], target=0, agent="two")
    answers = {"one": classes([1, 1]), "two": classes([1, 1])}
    assert cross_asr([one], answers, K) is None
    assert cross_asr([one, two], answers, K).matrix == ((1.0, 0.0), (None, 0.0))
    many = [run_time([0], [1], target=1, agent=f"a{k}") for k in range(LIMIT + 5)]
    ours = cross_asr(many, {own.agent: classes([1]) for own in many}, K)
    assert len(ours.agents) == len(ours.matrix) == len(ours.matrix[0]) == LIMIT
