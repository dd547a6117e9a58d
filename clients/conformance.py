"""What every update attack must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_attack(MyAttack(strength=2.0))``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from clients.update_attacks.base import Before, LocalPlan, NotGranted, UpdateAttack, View
from clients.update_attacks.local_rows import LocalKnowledge, LocalRows
from learning.conformance import (
    another_global_seed,
    check_survives_json,
    expect,
    expected,
    nothing_changed,
)
from learning.method import kind_of
from learning.models.softmax import Softmax
from learning.seeds import torch_generator
from learning.training.job import UpdateConstraint
from learning.weights import WeightLayout

GRANTS = ("own", "group", "honest")
_SHAPE, _CLASSES = (1, 3, 2), 4


@dataclass(frozen=True, eq=False, kw_only=True)
class _Watched(View):
    """A view that remembers whether the deployed rule was asked without a grant."""

    refused: list[str] = field(default_factory=list)

    def rule(self, updates: Tensor) -> Tensor:
        """Ask the rule; see `View.rule`."""
        try:
            return super().rule(updates)
        except NotGranted:
            self.refused.append("knows_rule")
            raise


def check_attack(attack: UpdateAttack) -> None:
    """Play an attack on small made-up rounds and check all that the game relies on.

    The rounds have one and many rows, updates that are zero, alike, huge (norm 1e6) and tiny
    (1e-12), a single weight, a single participant, float32 and float64, and a first round. An
    attack that declares `knows_rule` meets the mean and the coordinate-wise median; one that
    declares `needs_rows` is told rows and a model of theirs, whatever the width of the updates.

    Args:
        attack: With its parameters as a scenario would set them.

    Raises:
        AssertionError: In one line, with the attack's kind and the round: if a plan is not valid;
            if an update is not finite, floating point and of the right shape; if buffers are not
            finite, or others than the model's; if what it was given is changed; if the same view
            gives two answers, also after other rounds were played; if it draws from torch's global
            generator; if it asks for the rule without `knows_rule`; if it fails; or if its
            parameters do not survive JSON.
    """
    kind = kind_of(type(attack))
    expect(attack.grant in GRANTS, kind, f"a grant of {GRANTS}", repr(attack.grant))
    check_survives_json(attack, kind)
    first = [(name, _play(attack, view, f"{kind}, {name}")) for name, view in _views(attack)]
    with another_global_seed():
        again = [
            _play(attack, view, f"{kind}, {name}") for name, view in reversed([*_views(attack)])
        ]
    for (name, one), other in zip(first, reversed(again), strict=True):
        expect(
            _equal(one, other),
            f"{kind}, {name}",
            "the same plan and update whenever it is given the same view",
            "two answers; draw from view.generator alone and keep nothing",
        )


def _play(attack: UpdateAttack, view: _Watched, where: str) -> tuple[LocalPlan, Tensor]:
    """Return the plan and the update of one round, both checked."""
    before = Before(
        agent=view.agent,
        seed=view.seed,
        round=view.round,
        start=view.start,
        previous=view.previous,
        local=view.local,
    )
    with nothing_changed(_tensors(view), where), expected("a plan and an update", where):
        try:
            plan, update = attack.plan(before), attack.craft(view)
        except NotGranted:
            view.refused.append("needs_rows")
            plan, update = LocalPlan(), view.own
    for missing in view.refused:
        expect(False, where, f"{missing} = True", "an attack that asks without it")
    if view.local is not None:
        _check_kept(view.local, where)
    _check_plan(plan, len(view.own), where)
    _check_update(update, view.own, where)
    _check_buffers(attack, before, where)
    return plan, update


def _check_buffers(attack: UpdateAttack, before: Before, where: str) -> None:
    """Ask twice for the buffers that go with the update."""
    model = nn.BatchNorm1d(3)
    layout = WeightLayout(model)
    given = {name: value + 1 for name, value in layout.rest(model.state_dict()).items()}
    with nothing_changed(given, where), expected("buffers", where):
        made, again = (attack.buffers_handed_over(before, given, layout) for _ in range(2))
    same = all(torch.equal(made[name], again[name]) for name in given)
    expect(same, where, "the same buffers whenever it is given the same", "two answers")


def _check_plan(plan: LocalPlan, width: int, where: str) -> None:
    expect(isinstance(plan, LocalPlan), where, "plan() to return a LocalPlan", repr(plan))
    epochs = plan.epochs
    whole = epochs is None or (isinstance(epochs, int) and not isinstance(epochs, bool))
    expect(whole and (epochs is None or epochs >= 1), where, "epochs >= 1 or None", repr(epochs))
    expect(_number(plan.rate) and plan.rate > 0, where, "a finite rate > 0", repr(plan.rate))
    expect(isinstance(plan.honest, bool), where, "honest as a bool", repr(plan.honest))
    if plan.steering is not None:
        _check_steering(plan.steering, width, where)
    if plan.rows is not None:
        expect(isinstance(plan.rows, LocalRows), where, "rows as LocalRows", repr(plan.rows))
        with expected("rows to train on", where):
            plan.rows.checked(_SHAPE, _CLASSES, "the plan")


def _check_steering(steering: UpdateConstraint, width: int, where: str) -> None:
    expect(_number(steering.gain), where, "a finite gain", repr(steering.gain))
    pull, radius, free = steering.pull, steering.radius, steering.free
    expect(_number(pull) and pull >= 0, where, "a finite pull >= 0", repr(pull))
    fits = radius is None or (_number(radius) and radius >= 0)
    expect(fits, where, "a finite radius >= 0 or None", repr(radius))
    projects = steering.project in ("step", "epoch")
    expect(projects, where, "project of step or epoch", repr(steering.project))
    if free is not None:
        fits = free.dtype == torch.bool and free.shape == (width,) and free.device.type == "cpu"
        wanted = f"free as bool ({width},) on the CPU"
        expect(fits, where, wanted, f"{free.dtype} {tuple(free.shape)} on {free.device}")


def _check_update(update: Tensor, own: Tensor, where: str) -> None:
    expect(isinstance(update, Tensor), where, "a tensor", type(update).__name__)
    expect(update.shape == own.shape, where, f"shape {tuple(own.shape)}", str(tuple(update.shape)))
    expect(update.is_floating_point(), where, "a floating point update", str(update.dtype))
    finite = bool(torch.isfinite(update.to(own.dtype)).all())
    expect(finite, where, f"an update that is finite in {own.dtype}", "inf or nan")


def _views(attack: UpdateAttack) -> Iterator[tuple[str, _Watched]]:
    """Yield fresh rounds, by name; the draws are the same at each call."""
    plain = _view(attack, rows=6, width=33)
    yield "a plain round", plain
    yield "one row", _view(attack, rows=1, width=33)
    yield "many rows", _view(attack, rows=25, width=9)
    yield "another member of the group", _view(attack, rows=6, width=33, member=3)
    yield "float64", _view(attack, rows=6, width=33, dtype=torch.float64)
    yield "zero updates", _view(attack, rows=6, width=33, size=0.0)
    yield "huge updates", _view(attack, rows=6, width=33, size=1e6)
    yield "tiny updates", _view(attack, rows=6, width=33, size=1e-12)
    yield "updates that are alike", _view(attack, rows=6, width=33, alike=True)
    yield "a single weight", _view(attack, rows=6, width=1)
    yield "a single zero weight", _view(attack, rows=1, width=1, size=0.0)
    yield "the first round", replace(plain, round=1, previous=None)
    still = None if plain.previous is None else plain.start
    yield "a round after one that was skipped", replace(plain, previous=still)
    alone = _view(attack, rows=1, width=33)
    yield "one participant", replace(alone, participants=1, accomplices=1, member=0, boost=1.0)
    if attack.knows_rule:
        yield "a defender with the median", replace(plain, deployed=_median)


def _view(
    attack: UpdateAttack,
    rows: int,
    width: int,
    size: float = 1.0,
    alike: bool = False,
    member: int = 0,
    dtype: torch.dtype = torch.float32,
) -> _Watched:
    """Return a round in which `rows` updates of L2 norm `size` can be seen, where granted."""
    generator = torch_generator(7, "conformance", round=rows, agent=str(width))
    draws = torch.randn(rows + 2, width, generator=generator, dtype=torch.float64)
    if alike:
        draws[:rows] = draws[0]
    updates = size * draws[:rows] / draws[:rows].norm(dim=1, keepdim=True)
    own, start = updates[member].to(dtype), draws[rows].to(dtype)
    among = slice(1, None) if attack.grant == "honest" and rows > 1 else slice(None)
    seen = updates[member : member + 1] if attack.grant == "own" else updates[among]
    return _Watched(
        agent="mallory",
        seed=7,
        round=3,
        start=start,
        previous=(start - 0.1 * draws[rows + 1]).to(dtype) if attack.listens else None,
        own=own,
        seen=seen.to(dtype),
        participants=rows + 4,
        accomplices=rows,
        member=member,
        boost=float(rows + 4),
        deployed=_mean if attack.knows_rule else None,
        local=_local(rows) if attack.needs_rows else None,
    )


def _local(rows: int) -> LocalKnowledge:
    """Return `rows` clean rows, the same with their labels flipped, and a model of such rows."""
    draws = torch_generator(7, "conformance/rows")
    x = torch.rand(rows, *_SHAPE, generator=draws).numpy()
    y = np.arange(rows, dtype=np.int64) % _CLASSES
    model = Softmax().build(_SHAPE, _CLASSES).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=draws))
    return LocalKnowledge(
        clean=LocalRows(x.copy(), y),
        contributed=LocalRows(x.copy(), (y + 1) % _CLASSES),
        classes=_CLASSES,
        share=1 / (rows + 4),
        rate=0.1,
        steps=4,
        model=lambda: deepcopy(model),
    )


def _check_kept(local: LocalKnowledge, where: str) -> None:
    """Check that the rows told are as they were; `_local` makes the same again."""
    fresh = _local(len(local.clean.y))
    for name in ("clean", "contributed"):
        here, there = getattr(local, name), getattr(fresh, name)
        kept = np.array_equal(here.x, there.x) and np.array_equal(here.y, there.y)
        expect(kept, where, f"local.{name} left as it is", "other rows")


def _mean(updates: Tensor) -> Tensor:
    return updates.mean(0)


def _median(updates: Tensor) -> Tensor:
    return updates.quantile(0.5, dim=0)


def _tensors(view: View) -> dict[str, Tensor]:
    named = {"own": view.own, "seen": view.seen, "start": view.start, "previous": view.previous}
    return {f"view.{name}": value for name, value in named.items() if value is not None}


def _equal(one: tuple[LocalPlan, Tensor], other: tuple[LocalPlan, Tensor]) -> bool:
    """Whether two answers are the same, bit for bit."""
    (plan, update), (plan_again, update_again) = one, other
    return torch.equal(update, update_again) and _told(plan) == _told(plan_again)


def _told(plan: LocalPlan) -> list[object]:
    steering = plan.steering or UpdateConstraint()
    free = None if steering.free is None else tuple(steering.free.tolist())
    how = [steering.gain, steering.pull, steering.radius, steering.project, free]
    rows = None if plan.rows is None else (plan.rows.x.tobytes(), plan.rows.y.tobytes())
    return [plan.epochs, plan.rate, plan.honest, plan.steering is None, *how, rows]


def _number(value: object) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]
