"""Every check of the public suite for aggregation rules and steps before them can fail."""

from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from pydantic import model_serializer

from strategies.aggregation.base import Aggregate, Aggregator, Infeasible, PreAggregator
from strategies.aggregation.updates import Updates
from strategies.conformance.aggregation import PROBED, check_aggregator, check_preaggregator


class Plain(Aggregator):
    """The plain mean; the broken ones below change one thing each."""

    kind: Literal["plain"] = "plain"
    made: ClassVar[object] = None

    def apply(self, updates, state, context):
        mean = updates.matrix.mean(0)
        trust = torch.full((len(updates),), 1 / len(updates), dtype=torch.float64)
        everyone = torch.ones(len(updates), dtype=torch.bool)
        answer = Aggregate(mean, trust, everyone, {"last": mean.clone()})
        made = type(self).made
        return answer if made is None else made(answer, updates, state, context)


def making(made, **more):
    names = {"made": staticmethod(made), "__annotations__": {}, **more}
    return type("Making", (Plain,), names)()


def test_an_honest_rule_conforms():
    check_aggregator(Plain())


def spoil(answer, updates, state, context):
    updates.matrix.mul_(2)
    return answer


def spoil_weights(answer, updates, state, context):
    updates.weights.add_(1)
    return answer


def spoil_state(answer, updates, state, context):
    for value in state.values():
        value.add_(1)
    return answer


def add_to_state(answer, updates, state, context):
    if state:
        state["seen"] = torch.ones(1)
    return answer


def draw(answer, updates, state, context):
    torch.rand(1)
    return answer


def depend(answer, updates, state, context):
    return replace(answer, update=answer.update + torch.initial_seed() % 1000)


CALLS = []


def remember(answer, updates, state, context):
    CALLS.append(1)
    return replace(answer, update=answer.update * len(CALLS))


def remember_in_state(answer, updates, state, context):
    CALLS.append(1)
    return replace(answer, state={"calls": torch.tensor(len(CALLS))})


def by_chunk(answer, updates, state, context):
    last = [block.mean() for _, block in updates.chunks(context.memory)][-1]
    return replace(answer, update=answer.update * 0 + last)


def first_come(answer, updates, state, context):
    return replace(answer, update=updates.matrix[0].clone())


def trust_the_first(answer, updates, state, context):
    trust = answer.trust * 0
    trust[0] = 1
    return replace(answer, trust=trust)


def select_the_first(answer, updates, state, context):
    selected = torch.arange(len(updates)) == 0
    return replace(answer, trust=None, selected=selected)


def need_the_state(answer, updates, state, context):
    return (
        replace(answer, state={name: torch.ones(1) for name in updates.agents})
        if not state
        else (replace(answer, update=answer.update + sum(state[name] for name in updates.agents)))
    )


def changed(**fields):
    """Return a maker that changes some fields of the answer, each by a function of it."""

    def made(answer, updates, state, context):
        return replace(answer, **{name: how(answer, updates) for name, how in fields.items()})

    return made


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda answer, *rest: answer.update, "got AttributeError"),
        (changed(update=lambda a, u: a.update[:1].repeat(2)), "expected an update"),
        (changed(update=lambda a, u: a.update[None]), "expected an update"),
        (changed(update=lambda a, u: a.update.double()), "expected an update of torch.float32"),
        (changed(update=lambda a, u: a.update / a.update.norm()), "zero updates: .* NotFinite"),
        (changed(update=lambda a, u: a.update / (a.update.norm() > 1e-9)), "updates: .* NotFinite"),
        (changed(update=lambda a, u: a.update.pow(8).pow(8)), "(huge|outlier).*NotFinite"),
        (changed(update=lambda a, u: a.update / (u.width - 1)), "a single weight: .* NotFinite"),
        (changed(update=lambda a, u: a.update / u.weights.min()), "without a share: .* NotFinite"),
        (changed(update=lambda a, u: u.matrix[0]), "memory of its own for update"),
        (changed(state=lambda a, u: {"last": u.matrix[0]}), "memory of its own for last"),
        (changed(state=lambda a, u: {"round": 1}), "expected a state of tensors"),
        (changed(state=lambda a, u: None), "expected a state of tensors"),
        (changed(notes=lambda a, u: ("two\nlines",)), "notes as a tuple of lines"),
        (changed(notes=lambda a, u: "note"), "notes as a tuple of lines"),
        (changed(trust=lambda a, u: a.trust[:0]), "expected trust as float64"),
        (changed(trust=lambda a, u: a.trust.float()), "expected trust as float64"),
        (changed(trust=lambda a, u: a.trust - 1), "trust >= 0"),
        (changed(trust=lambda a, u: a.trust * (1 - 2 * (torch.arange(len(u)) == 1))), "trust >= 0"),
        (changed(trust=lambda a, u: a.trust * 2), "at most 1 in all"),
        (changed(trust=lambda a, u: a.trust * float("nan")), "trust >= 0"),
        (changed(selected=lambda a, u: a.selected[:0]), "expected selected as bool"),
        (changed(selected=lambda a, u: a.selected.long()), "expected selected as bool"),
        (changed(selected=lambda a, u: ~a.selected), "no trust in rows that are not selected"),
        (spoil, "expected matrix left as it is"),
        (spoil_weights, "expected weights left as it is"),
        (spoil_state, "second of two rounds: expected state last left as it is"),
        (add_to_state, "second of two rounds: expected the state given"),
        (draw, "torch's global generator left alone"),
        (depend, "expected the same answer"),
        (remember, "expected the same answer"),
        (remember_in_state, "expected the same answer"),
        (by_chunk, "little memory: expected the update of one chunk"),
        (first_come, "another order: expected the same update"),
        (trust_the_first, "another order: expected trust in that order"),
        (select_the_first, "another order: expected a selection in that order"),
        (need_the_state, "second of two rounds: .* KeyError"),
        (changed(update=lambda a, u: a.update * 0.5), "equal rows of torch.float32: .* that row"),
    ],
)
def test_a_rule_that_breaks_a_promise_is_caught(made, told):
    with pytest.raises(AssertionError, match=rf"^plain, \d+ .*{told}") as caught:
        check_aggregator(making(made))
    assert "\n" not in str(caught.value)


def test_what_is_not_promised_is_not_asked():
    check_aggregator(making(first_come), permutation=False)
    check_aggregator(making(changed(update=lambda a, u: a.update * 0.5)), idempotent=False)


def test_a_rule_that_leaves_torch_on_other_threads_is_caught():
    class Threaded(Plain):
        def aggregate(self, updates, state, context):
            torch.set_num_threads(torch.get_num_threads() + 1)
            return super().aggregate(updates, state, context)

    before = torch.get_num_threads()
    try:
        with pytest.raises(AssertionError, match=r"expected torch left on \d+ threads"):
            check_aggregator(Threaded())
    finally:
        torch.set_num_threads(before)


def test_an_answer_that_is_no_aggregate_is_caught():
    class Bare(Plain):
        def aggregate(self, updates, state, context):
            return updates.matrix.mean(0)

    with pytest.raises(AssertionError, match="expected an Aggregate, got Tensor"):
        check_aggregator(Bare())


class Suits(Plain):
    """Says that it suits some numbers of contributions, and suits others."""

    says: ClassVar[object] = None
    does: ClassVar[object] = None

    def infeasible(self, n):
        return type(self).says(n)

    def aggregate(self, updates, state, context):
        if not type(self).does(len(updates)):
            raise Infeasible("too few")
        return self.apply(updates, state, context)


def suiting(says, does):
    names = {"says": staticmethod(says), "does": staticmethod(does), "__annotations__": {}}
    return type("Suiting", (Suits,), names)()


@pytest.mark.parametrize(
    ("says", "does", "told"),
    [
        (lambda n: "few" if n < 3 else None, lambda n: True, "1 rows: expected Infeasible"),
        (lambda n: "few" if n < 3 else None, lambda n: n >= 4, "3 rows: expected no Infeasible"),
        (lambda n: "few" if n < 3 else None, lambda n: n >= 2, "2 rows: expected Infeasible"),
        (lambda n: "few" if n < 3 else None, lambda n: n in range(3, PROBED), "12 rows: .* no Inf"),
        (lambda n: "too\nfew" if n < 3 else None, lambda n: n >= 3, "None or one line"),
        (lambda n: "" if n < 3 else None, lambda n: n >= 3, "None or one line"),
        (lambda n: n < 3, lambda n: n >= 3, "None or one line"),
        (lambda n: "never", lambda n: False, "a number of contributions up to 64"),
    ],
)
def test_a_rule_that_does_not_keep_its_word_about_its_numbers_is_caught(says, does, told):
    with pytest.raises(AssertionError, match=told):
        check_aggregator(suiting(says, does))
    check_aggregator(suiting(lambda n: "few" if n < 3 else None, lambda n: n >= 3))


def test_a_rule_that_needs_its_own_update_gets_it_only_where_it_says_so():
    def lean(answer, updates, state, context):
        return replace(answer, update=answer.update + context.own)

    with pytest.raises(AssertionError, match="got TypeError"):
        check_aggregator(making(lean), idempotent=False)
    check_aggregator(making(lean, needs_own=True), idempotent=False)


def lossy(base):
    class Lossy(base):
        strength: float = 1.0

        @model_serializer
        def without_strength(self):
            return {"kind": self.kind}

    return Lossy


class Halving(PreAggregator):
    """Halves all updates."""

    kind: Literal["halving"] = "halving"
    made: ClassVar[object] = None

    def apply(self, updates, context):
        halves = updates.mixed(torch.eye(len(updates), dtype=torch.float64) / 2)
        made = type(self).made
        return halves if made is None else made(halves, updates, context)


def step_making(made, **more):
    names = {"made": staticmethod(made), "__annotations__": {}, **more}
    return type("StepMaking", (Halving,), names)()


def fresh(how):
    """Return a maker of a step's updates from a matrix of its own."""

    def made(halves, updates, context):
        matrix = how(updates.matrix.clone())
        count = len(matrix)
        return Updates(matrix, updates.weights[:count], updates.agents[:count], updates.round)

    return made


def spoil_rows(halves, updates, context):
    updates.matrix.add_(1)
    return halves


def draw_in_step(halves, updates, context):
    torch.rand(1)
    return halves


def depend_in_step(halves, updates, context):
    return halves.mixed(halves.mixing / (1 + torch.initial_seed() % 1000))


def first_in_step(halves, updates, context):
    return halves.mixed(torch.eye(len(updates), dtype=torch.float64)[[0] * len(updates)])


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda halves, updates, context: updates.matrix, "expected Updates"),
        (fresh(lambda rows: rows[: len(rows) // 2 + 1]), "as rows.. says"),
        (fresh(lambda rows: rows[:, :1]), "as rows.. says"),
        (fresh(lambda rows: rows.double()), "expected torch.float32"),
        (fresh(lambda rows: rows / rows.norm()), "zero updates: expected finite rows"),
        (lambda halves, updates, context: updates.mixed(-halves.mixing), "mixing >= 0"),
        (lambda halves, updates, context: updates.mixed(3 * halves.mixing), "at most"),
        (spoil_rows, "expected matrix left as it is"),
        (draw_in_step, "torch's global generator left alone"),
        (depend_in_step, "the same rows for the same round"),
        (first_in_step, "another order: expected rows in that order"),
        (lambda halves, updates, context: halves.no_such_thing, "got AttributeError"),
    ],
)
def test_a_step_that_breaks_a_promise_is_caught(made, told):
    check_preaggregator(Halving())
    with pytest.raises(AssertionError, match=rf"^halving, \d+ .*{told}") as caught:
        check_preaggregator(step_making(made))
    assert "\n" not in str(caught.value)


def test_a_step_may_do_without_the_order():
    check_preaggregator(step_making(first_in_step), permutation=False)


@pytest.mark.parametrize(
    ("base", "check"), [(Plain, check_aggregator), (Halving, check_preaggregator)]
)
def test_parameters_that_do_not_survive_json_are_caught(base, check):
    check(lossy(base)())
    with pytest.raises(AssertionError, match="the same parameters after a round trip"):
        check(lossy(base)(strength=2.0))


def test_a_rule_under_which_hostile_statistics_count_is_found(monkeypatch):
    """Every user's rule meets the update attack `statistics`."""
    everyone = lambda values, variances: torch.zeros(  # noqa: E731
        len(next(iter(values.values()))), dtype=torch.bool
    )
    monkeypatch.setattr("strategies.aggregation.parts.buffers.far_off", everyone)
    with pytest.raises(AssertionError, match=r"1 of them with hostile buffers: expected running_"):
        check_aggregator(Plain())
