"""Every update attack passes the public suite, and every check of the suite can fail."""

from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from found_methods import check_source
from pydantic import ConfigDict, ValidationError, model_serializer

from clients.conformance import check_attack
from clients.update_attacks.base import LocalPlan, NotGranted, UpdateAttack
from clients.update_attacks.local_rows import LocalRows
from learning.method import discover
from learning.training.job import UpdateConstraint

ATTACKS = discover(UpdateAttack, "clients.update_attacks")
# Parameters to play with besides an attack's own examples.
MORE = {
    "gaussian": [{"mode": "add", "sigma": 0.1}],
    "zero": [{"what": "weights"}],
    "sign_flip": [{"scale": 1e6}],
    "model_replacement": [{"scale": 1e9}, {"bound": 1.0, "together": False, "epochs": 3}],
    "constrain_and_scale": [{"alpha": 1.0}, {"alpha": 0.1, "bound": 1e-3}],
    "projected_gradient": [
        {"unit": "model", "radius": 0.1, "scale": None},
        {"unit": "last_step", "project": "epoch", "bound": 1.0},
    ],
    "recraft": [{"labels": "next", "damping": 1e-3}, {"step": 1.0, "iterations": 1}],
    "neurotoxin": [{"top_k": 0.0}, {"top_k": 0.99, "scale": None, "bound": 1.0}],
}
CASES = [
    pytest.param(attack(**fields), id=f"{kind}-{at}")
    for kind, attack in ATTACKS.items()
    for at, fields in enumerate([*attack.examples, *MORE.get(kind, [])])
]


@pytest.mark.parametrize("attack", CASES)
def test_it_conforms(attack):
    check_attack(attack)


@pytest.mark.parametrize("kind", sorted(ATTACKS))
def test_it_names_its_paper_and_the_origin_of_its_numbers(kind):
    attack = ATTACKS[kind]
    check_source(attack)
    with pytest.raises(ValidationError, match="no_such_field"):
        attack(no_such_field=1)


@pytest.mark.parametrize("kind", sorted(ATTACKS))
def test_every_attack_is_played(kind):
    assert ATTACKS[kind].examples


def test_no_case_is_of_an_attack_that_is_gone():
    assert set(MORE) <= set(ATTACKS)


class Honest(UpdateAttack):
    """Hands over what it has trained; the broken ones below change one thing each."""

    kind: Literal["honest"] = "honest"

    def craft(self, view):
        return view.own.clone()


class Planned(Honest):
    """Plans what a test tells it to."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    planned: ClassVar[object] = LocalPlan()

    def plan(self, before):
        return type(self).planned


def planning(plan):
    return type("Planning", (Planned,), {"planned": plan, "__annotations__": {}})()


class Crafted(Honest):
    made: ClassVar[object] = None
    hears: ClassVar[bool] = False

    def craft(self, view):
        return type(self).made(view)


def crafting(made, **flags):
    flags = {"made": staticmethod(made), "__annotations__": {}, **flags}
    return type("Crafting", (Crafted,), flags)()


def test_honest_attacks_and_plans_conform():
    check_attack(Honest())
    free = lambda before: torch.ones(len(before.start), dtype=torch.bool)  # noqa: E731
    for plan in (
        LocalPlan(epochs=3, rate=0.1, honest=True),
        LocalPlan(steering=UpdateConstraint(gain=0.5, pull=1.0, radius=2.0, project="epoch")),
    ):
        check_attack(planning(plan))

    class Free(Honest):
        def plan(self, before):
            return LocalPlan(steering=UpdateConstraint(free=free(before)))

    check_attack(Free())


def mask(width, dtype=torch.bool):
    return LocalPlan(steering=UpdateConstraint(free=torch.ones(width, dtype=dtype)))


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (None, "a LocalPlan"),
        (LocalPlan(epochs=0), "epochs >= 1"),
        (LocalPlan(epochs=1.5), "epochs >= 1"),
        (LocalPlan(epochs=True), "epochs >= 1"),
        (LocalPlan(rate=0.0), "rate > 0"),
        (LocalPlan(rate=float("nan")), "rate > 0"),
        (LocalPlan(honest=1), "honest as a bool"),
        (LocalPlan(steering=UpdateConstraint(gain=float("inf"))), "finite gain"),
        (LocalPlan(steering=UpdateConstraint(pull=-1.0)), "pull >= 0"),
        (LocalPlan(steering=UpdateConstraint(radius=-1.0)), "radius >= 0"),
        (LocalPlan(steering=UpdateConstraint(project="never")), "step or epoch"),
        (mask(5), "free as bool"),
        (mask(33, torch.float32), "free as bool"),
    ],
)
def test_a_plan_that_is_not_valid_is_caught(plan, told):
    with pytest.raises(AssertionError, match=rf"^honest, a plain round: expected .*{told}"):
        check_attack(planning(plan))


def rows(x=(5, 1, 3, 2), y=(5,), x_type=np.float32, y_type=np.int64, value=0.5, label=3):
    return LocalRows(np.full(x, value, x_type), np.full(y, label, y_type))


def test_rows_of_any_number_can_be_planned():
    check_attack(planning(LocalPlan(rows=rows())))
    check_attack(planning(LocalPlan(rows=rows(x=(1, 1, 3, 2), y=(1,), value=1.0, label=0))))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (rows(x=(5, 1, 2, 3)), r"inputs \(n, 1, 3, 2\) and labels \(n,\)"),
        (rows(y=(4,)), r"labels \(n,\), n >= 1, got \(5, 1, 3, 2\) and \(4,\)"),
        (rows(x=(0, 1, 3, 2), y=(0,)), "n >= 1"),
        (rows(y=()), "n >= 1"),
        (rows(x_type=np.float64), "inputs float32 and labels int64, got float64"),
        (rows(y_type=np.int32), "got float32 and int32"),
        (rows(value=1.001), r"numbers in \[0, 1\]"),
        (rows(value=-0.001), r"numbers in \[0, 1\]"),
        (rows(value=np.nan), r"numbers in \[0, 1\]"),
        (rows(label=4), r"labels in 0\.\.3, got 4"),
        (rows(label=-1), r"labels in 0\.\.3, got -1"),
        (LocalRows(torch.rand(5, 1, 3, 2), torch.zeros(5)), "numpy arrays, got Tensor"),
    ],
)
def test_rows_that_no_model_can_be_trained_on_are_caught(made, told):
    with pytest.raises(AssertionError, match=told) as caught:
        check_attack(planning(LocalPlan(rows=made)))
    assert "\n" not in str(caught.value)


def test_rows_that_change_with_the_asking_are_caught():
    class Restless(Honest):
        def plan(self, before):
            value = float(torch.initial_seed() % 1000) / 1000
            return LocalPlan(rows=rows(value=value))

    with pytest.raises(AssertionError, match="expected the same plan and update"):
        check_attack(Restless())


def test_an_attack_that_needs_no_rows_is_told_none_and_told_rows_are_left_alone():
    class Curious(Honest):
        def plan(self, before):
            return LocalPlan(rows=before.known_rows().clean)

    class Writing(Curious):
        needs_rows: ClassVar[bool] = True

        def plan(self, before):
            before.known_rows().clean.x[0] = 0.5
            return LocalPlan()

    class Granted(Curious):
        needs_rows: ClassVar[bool] = True

    with pytest.raises(AssertionError, match="needs_rows"):
        check_attack(Curious())
    with pytest.raises(AssertionError, match=r"local\.clean left as it is"):
        check_attack(Writing())
    check_attack(Granted())


def spoil(name):
    def spoiled(view):
        getattr(view, name).add_(1)
        return torch.zeros_like(view.own)

    return spoiled


def swallowing(view):
    try:
        return view.rule(view.seen)
    except NotGranted:
        return view.own


def changing(view):
    torch.rand(1)
    return view.own


def depending(view):
    return view.own + torch.tensor(float(torch.initial_seed() % 1000))


HISTORY = []


def remembering(view):
    HISTORY.append(1)
    return view.own * len(HISTORY)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda view: view.own[:1], "a plain round: expected shape"),
        (lambda view: view.own[None], "a plain round: expected shape"),
        (lambda view: view.own.numpy(), "expected a tensor"),
        (lambda view: view.own.long(), "expected a floating point update"),
        (lambda view: view.own / view.own.abs().max(), "zero updates: expected .* finite"),
        (lambda view: view.own / view.own.norm() ** 4, "updates: expected .* finite"),
        (lambda view: torch.linalg.vector_norm(view.own**8) * view.own, "huge updates: .* finite"),
        (lambda view: view.own.double() * 1e300, "finite in torch.float32"),
        (lambda view: view.own / (len(view.own) - 1), "a single weight: .* finite"),
        (lambda view: view.own / (view.participants - 1), "one participant: .* finite"),
        (lambda view: view.own / (view.round - 1), "the first round: .* finite"),
        (lambda view: view.seen.var(0, correction=0).log(), "expected .* finite"),
        (spoil("own"), "expected view.own left as it is"),
        (spoil("seen"), "expected view.(own|seen) left as it is"),
        (spoil("start"), "expected view.start left as it is"),
        (lambda view: view.rule(view.seen), "expected knows_rule = True"),
        (swallowing, "expected knows_rule = True"),
        (changing, "expected torch's global generator left alone"),
        (depending, "expected the same plan and update"),
        (remembering, "expected the same plan and update"),
        (lambda view: view.own.no_such_thing, "got AttributeError"),
    ],
)
def test_an_update_that_breaks_a_promise_is_caught(made, told):
    with pytest.raises(AssertionError, match=told) as caught:
        check_attack(crafting(made))
    assert "\n" not in str(caught.value)


def test_an_attack_that_listens_has_to_do_without_in_the_first_round():
    def reading(view):
        return view.start - view.previous

    with pytest.raises(AssertionError, match=r"the first round: .* TypeError"):
        check_attack(crafting(reading, listens=True))

    def spoiling(view):
        if view.previous is not None:
            view.previous.add_(1)
        return view.own

    with pytest.raises(AssertionError, match=r"view\.previous left as it is"):
        check_attack(crafting(spoiling, listens=True))
    with pytest.raises(AssertionError, match=r"a round after one that was skipped: .* finite"):
        check_attack(
            crafting(
                lambda view: (
                    view.own
                    if view.previous is None
                    else view.own / (view.start - view.previous).norm()
                ),
                listens=True,
            )
        )


def test_an_attack_that_is_granted_the_rule_meets_one():
    check_attack(crafting(lambda view: -view.rule(view.seen), knows_rule=True))


def test_an_attack_sees_what_its_grant_says_and_no_more():
    rows = []

    class Seeing(Honest):
        knowledge: Literal["own", "group", "honest", "all"] = "own"

        def craft(self, view):
            rows.append((len(view.seen), any(torch.equal(view.own, row) for row in view.seen)))
            return view.own

    check_attack(Seeing())
    assert set(rows) == {(1, True)}
    rows.clear()
    check_attack(Seeing(knowledge="group"))
    assert all(own for _, own in rows)
    assert max(rows)[0] > 20
    rows.clear()
    check_attack(Seeing(knowledge="honest"))
    assert (1, True) in rows
    assert any(not own for _, own in rows)
    with pytest.raises(AssertionError, match="expected a grant"):
        check_attack(Seeing(knowledge="all"))


def test_an_attack_meets_updates_of_each_size_and_rows_of_one_size():
    sizes = set()

    class Measuring(Honest):
        knowledge: Literal["group"] = "group"

        def craft(self, view):
            norms = view.seen.double().norm(dim=1)
            torch.testing.assert_close(norms, norms[:1].expand_as(norms), rtol=1e-6, atol=0)
            sizes.add(float(f"{float(norms[0]):.3g}"))
            return view.own

    check_attack(Measuring())
    assert sizes == {0.0, 1e-12, 1.0, 1e6}


def test_a_plan_that_depends_on_the_global_generator_is_caught():
    class Moody(Honest):
        def plan(self, before):
            return LocalPlan(epochs=1 + torch.initial_seed() % 1000)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        with pytest.raises(AssertionError, match="the same plan and update"):
            check_attack(Moody())


def test_parameters_that_do_not_survive_json_are_caught():
    class Lossy(Honest):
        strength: float = 1.0

        @model_serializer
        def without_strength(self):
            return {"kind": self.kind}

    check_attack(Lossy())
    with pytest.raises(AssertionError, match="the same parameters after a round trip"):
        check_attack(Lossy(strength=2.0))

    class Renamed(Honest):
        @model_serializer
        def renamed(self):
            return {"name": self.kind}

    with pytest.raises(AssertionError, match="expected it to survive JSON, got ValidationError"):
        check_attack(Renamed())


def test_a_class_without_a_kind_is_told_to_declare_one():
    class Nameless(UpdateAttack):
        def craft(self, view):
            return view.own

    with pytest.raises(TypeError, match="must declare kind"):
        check_attack(Nameless())
