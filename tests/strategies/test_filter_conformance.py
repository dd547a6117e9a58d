"""Every check of the public suite for filters can fail; and every shipped filter passes it."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import model_serializer

from learning.method import discover
from learning.pool import Block, Pool
from learning.training.job import Training
from strategies.base import Filter, Verdict
from strategies.conformance.filtering import ExactLearner, check_filter, made_pool, shuffled
from strategies.filtering.parts.ranked import unjudged

SHIPPED = discover(Filter, "strategies.filtering")
# The arguments of the scenario, and of the check. A filter without an entry is checked as it is.
CASES = {
    "activation_clustering": [
        ({"decision": "size", "n_init": 3, "stability_runs": 1}, {}),
        ({"n_init": 2, "stability_runs": 0}, {}),
    ],
    "influence": [
        ({}, {"needs_defender": True}),
        ({"judge": "self", "remove": "count"}, {}),
        ({"layers": "all"}, {"needs_defender": True}),
        ({"layers": "all", "curvature": "hessian"}, {"needs_defender": True}),
    ],
    "loss_defence": [({}, {}), ({"share": 0.2, "per": "class"}, {})],
    "nearest_labels": [({}, {}), ({"space": "features", "k": 3}, {})],
    "sever": [({}, {}), ({"layers": "all", "rounds": 1}, {}), ({"per": "class", "share": 0.1}, {})],
    "spectral_signatures": [({}, {}), ({"remove": "count", "count": 9, "per": "class"}, {})],
    "trim": [({}, {"linear": True})],
    "strip": [({"images": 9}, {}), ({"blend": "mean", "frr": 0.2}, {})],
}
SHIPPED_CASES = [
    (kind, fields, asked)
    for kind in sorted(SHIPPED)
    for fields, asked in CASES.get(kind, [({}, {})])
]


@pytest.mark.parametrize(("kind", "fields", "asked"), SHIPPED_CASES)
def test_shipped_filters_conform(kind, fields, asked):
    check_filter(SHIPPED[kind](**fields), **asked)


class Plain(Filter):
    """Removes the two rows of lowest margin; the broken ones below change one thing each."""

    kind: Literal["plain"] = "plain"
    made: ClassVar[object] = None

    def inspect(self, pool, defender):
        (model,) = yield [Training(pool)]
        logits = defender.logits(model, pool.x)
        if not np.isfinite(logits).all():
            return unjudged(pool, "diverged")
        scores = -np.take_along_axis(logits, pool.y[:, None], 1)[:, 0]
        worst = np.argsort(-scores, kind="stable")[: min(2, len(pool) // 8)]
        worst = worst[scores[worst] > scores.min()]
        verdict = Verdict(pool.ids[worst], pool.ids, scores, ("a note",))
        made = type(self).made
        return verdict if made is None else made(verdict, pool, defender)


def making(made, **more):
    names = {"made": staticmethod(made), "__annotations__": {}, **more}
    return type("Making", (Plain,), names)()


def test_an_honest_filter_conforms():
    check_filter(Plain())
    check_filter(Plain(), equivariant=False, needs_defender=True)


def changed(**fields):
    def made(verdict, pool, defender):
        return replace(verdict, **{name: how(verdict, pool) for name, how in fields.items()})

    return made


def spoil_rows(verdict, pool, defender):
    pool.x[:1] += 1  # the gathered copy, which others are given too
    return verdict


def spoil_labels(verdict, pool, defender):
    pool.y[:] = 0
    return verdict


def draw_torch(verdict, pool, defender):
    torch.rand(1)
    return verdict


def draw_numpy(verdict, pool, defender):
    np.random.rand()
    return verdict


def depend_on_the_seed(verdict, pool, defender):
    return replace(verdict, scores=verdict.scores + np.float32(torch.initial_seed() % 1000))


CALLS = []


def remember(verdict, pool, defender):
    CALLS.append(1)
    return replace(verdict, scores=verdict.scores * len(CALLS))


def remember_in_notes(verdict, pool, defender):
    CALLS.append(1)
    return replace(verdict, notes=(str(len(CALLS)),))


def refuse(verdict, pool, defender):
    if "defender" not in pool.owners:
        raise ValueError("no rows of the defender's")
    return verdict


def refuse_at_length(verdict, pool, defender):
    if "defender" not in pool.owners:
        raise ValueError("no rows\nof the defender's")
    return verdict


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda verdict, pool, defender: None, "expected a Verdict, got NoneType"),
        (changed(removed=lambda v, p: np.flatnonzero(np.isin(p.ids, v.removed))), "removed of ids"),
        (changed(removed=lambda v, p: p.ids[:2]), "the same rows to be removed"),
        (changed(removed=lambda v, p: np.repeat(v.removed, 2)), "each of removed once"),
        (changed(removed=lambda v, p: v.removed.tolist()), "removed as int64"),
        (changed(removed=lambda v, p: v.removed.astype(np.int32)), "removed as int64"),
        (changed(removed=lambda v, p: np.isin(p.ids, v.removed)), "removed as int64"),
        (changed(scored_ids=lambda v, p: np.arange(len(p))), "scored_ids of ids"),
        (changed(scored_ids=lambda v, p: v.scored_ids[:-1]), "scores as float32"),
        (changed(scored_ids=lambda v, p: np.roll(v.scored_ids, 1)), "the same scores"),
        (changed(scores=lambda v, p: v.scores.astype(np.float64)), "scores as float32"),
        (changed(scores=lambda v, p: v.scores / 0), "finite scores"),
        (changed(scores=lambda v, p: p.ids.astype(np.float32)), "the same scores"),
        (changed(scores=lambda v, p: v.scores * np.nan), "finite scores"),
        (changed(notes=lambda v, p: "a note"), "notes as a tuple of lines"),
        (changed(notes=lambda v, p: ("two\nlines",)), "notes as a tuple of lines"),
        (changed(removed=lambda v, p: v.removed + p.block("defender").first_id - 5), "KeyError"),
        (spoil_rows, "the pool left as it is"),
        (spoil_labels, "the pool left as it is"),
        (draw_torch, "torch's global generator left alone"),
        (draw_numpy, "NumPy's global generator left alone"),
        (depend_on_the_seed, "the same verdict whenever"),
        (remember, "the same verdict whenever"),
        (remember_in_notes, "the same verdict whenever"),
        (refuse, "expected a verdict, got ValueError"),
    ],
)
def test_a_broken_filter_is_found(made, told):
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=told) as found:
        check_filter(making(made))
    assert len(str(found.value).splitlines()) == 1
    assert "plain, " in str(found.value)


def careless(note):
    def inspect(self, pool, defender):
        (model,) = yield [Training(pool)]
        predicted = defender.logits(model, pool.x).argmax(axis=1)  # of NaN it is class 0
        some = (pool.ids[predicted != pool.y])[: len(pool) // 8]
        return Verdict(some, pool.ids, np.zeros(len(pool), np.float32), note)

    return inspect


def test_a_filter_that_takes_nan_for_a_class_is_found():
    with pytest.raises(AssertionError, match=r"all trainings diverged: expected that no row is"):
        check_filter(making(None, inspect=careless(("a note",))), equivariant=False)

    def silent(self, pool, defender):
        yield [Training(pool)]
        return Verdict(pool.ids[:0], pool.ids, np.zeros(len(pool), np.float32))

    with pytest.raises(AssertionError, match="a note that it could not judge, got none"):
        check_filter(making(None, inspect=silent))


def test_a_refusal_is_allowed_where_it_is_announced_and_in_one_line():
    check_filter(making(refuse), needs_defender=True)
    with pytest.raises(AssertionError, match="a reason of one line"):
        check_filter(making(refuse_at_length), needs_defender=True)


def by_position(verdict, pool, defender):
    """The mistake of shuffled loaders: right scores, in an order of their own."""
    order = np.random.Generator(np.random.PCG64(3)).permutation(len(pool))
    return replace(verdict, scores=verdict.scores[order])


def noisy(verdict, pool, defender):
    noise = np.random.Generator(np.random.PCG64(3)).random(len(pool), dtype=np.float32)
    return replace(verdict, scores=verdict.scores + 0.1 * noise, removed=verdict.removed[:0])


def test_draws_that_follow_positions_need_a_word_and_positions_themselves_are_found():
    for made in (by_position, noisy):
        with pytest.raises(AssertionError, match="rows in another order"):
            check_filter(making(made))
    check_filter(making(noisy), equivariant=False)
    with pytest.raises(AssertionError, match="scores that follow the rows"):
        check_filter(making(by_position), equivariant=False)


def two_scores_by_position(verdict, pool, defender):
    """Scores of two values only, which stay where they are when the rows move."""
    scores = (np.arange(len(pool)) % 2).astype(verdict.scores.dtype)
    return replace(verdict, scores=scores, removed=verdict.removed[:0])


def test_two_different_scores_are_enough_to_see_that_they_do_not_follow_the_rows():
    with pytest.raises(AssertionError, match="scores that follow the rows"):
        check_filter(making(two_scores_by_position), equivariant=False)


def test_a_filter_is_also_played_on_pools_of_six_rows_and_of_two():
    counts = set()

    def count(verdict, pool, defender):
        counts.add(len(pool))
        return verdict

    check_filter(making(count))
    assert sorted(counts)[:2] == [2, 6]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda pool: Training(pool), "lists of Training, got Training"),
        (lambda pool: [pool], "lists of Training"),
        (lambda pool: [Training(moved(pool))], "trainings on rows of the pool"),
    ],
)
def test_it_may_only_ask_for_trainings_on_the_pools_rows(asked, told):
    def inspect(self, pool, defender):
        yield asked(pool)

    with pytest.raises(AssertionError, match=told):
        check_filter(making(None, inspect=inspect))


def moved(pool):
    blocks = [Block(b.owner, b.first_id + 1000, b.x, b.y) for b in pool.blocks]
    return Pool(tuple(blocks), pool.classes)


def test_one_that_never_ends_and_one_that_is_no_method_are_found(monkeypatch):
    monkeypatch.setattr("strategies.conformance.filtering.MOST_STAGES", 20)

    def inspect(self, pool, defender):
        while True:
            yield [Training(pool)]

    with pytest.raises(AssertionError, match="expected an end"):
        check_filter(making(None, inspect=inspect))

    class Forgetful(Plain):
        kind: Literal["plain"] = "plain"
        share: float = 0.5

        @model_serializer
        def dump(self):
            return {"kind": "plain"}

    with pytest.raises(AssertionError, match="round trip through JSON"):
        check_filter(Forgetful(share=0.2))


def test_the_learner_is_exact_and_continues_a_model():
    pool = made_pool()
    moved_pool, _ = shuffled(pool, 1)
    learner = ExactLearner((1, 4, 4), pool.classes)
    one, other = (learner.train(Training(p)).module for p in (pool, moved_pool))
    torch.testing.assert_close(one.head.weight, other.head.weight)
    half = learner.train(Training(pool.only_owners(["defender", "ada"])))
    rest = Training(pool.without_owner("defender").without_owner("ada"), start=half)
    torch.testing.assert_close(learner.train(rest).module.head.weight, one.head.weight)
    x, y = torch.from_numpy(pool.x), torch.from_numpy(pool.y)
    targets = torch.eye(3, dtype=torch.float64)[y]
    z = one.features(x).double().numpy()
    ridge = np.linalg.solve(z.T @ z + 1e-3 * np.eye(24), z.T @ targets.numpy())
    np.testing.assert_allclose(one.head.weight.numpy(), ridge.T, rtol=1e-4, atol=1e-5)
    again = learner.train(Training(pool, purpose="other")).module
    assert not torch.allclose(again.head.weight, one.head.weight)
    assert float((one(x).argmax(1) == y).float().mean()) > 0.8
