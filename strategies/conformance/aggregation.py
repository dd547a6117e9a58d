"""What every aggregation rule must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_aggregator(MyRule(f=2))``. `check_preaggregator` does the same
for steps before aggregation. What only some rules promise (translation and scale equivariance, a
result in the hull of honest rows) is for the rule's own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from learning.conformance import (
    another_global_seed,
    check_survives_json,
    expect,
    expected,
    nothing_changed,
)
from learning.hostile_buffers import hostile_buffers
from learning.method import kind_of
from learning.seeds import torch_generator
from learning.server_optimizers.fedavg import FedAvg
from learning.weights import WeightLayout
from strategies.aggregation.base import (
    Aggregate,
    Aggregator,
    Context,
    Infeasible,
    PreAggregator,
    State,
)
from strategies.aggregation.parts.buffers import Buffers
from strategies.aggregation.updates import Updates
from strategies.federated import DefencePipeline, RoundResult, ServerState, play_round

MOST = 64  # contributions that are tried in the search for a number that suits a rule
PROBED = 12  # numbers of contributions for which the rule's word is taken at its face
WIDTH = 33
ROUNDING = 1e-9  # of shares that should add up to 1 at most


@dataclass(frozen=True, eq=False)
class _RuleCase:
    """One round: its name, updates and what the defender knows."""

    name: str
    updates: Updates
    context: Context


def check_aggregator(
    rule: Aggregator,
    *,
    permutation: bool = True,
    idempotent: bool = True,
    tolerance: float = 1e-6,
) -> None:
    """Play a rule on small made-up rounds and check all that the game relies on.

    The rounds have the smallest numbers of contributions that suit the rule and a few more, in
    float32 and float64; updates that are zero, alike, huge (norm 1e6), tiny (1e-12) or hold one
    outlier; a single weight; an agent without a share; little memory; a second round, in which an
    agent is missing, with the state of the first; and a model with normalisation layers, of which
    some agents, as many as the rule's `f` (or a quarter), hand over honest weights with hostile
    buffers, as the update attack `statistics` does.

    Args:
        rule: With its parameters as a scenario would set them.
        permutation: Whether the rule promises that the order of agents does not matter.
        idempotent: Whether it promises that equal rows are their aggregate.
        tolerance: Of comparisons, in units of the largest value.

    Raises:
        AssertionError: In one line, with the rule's kind and the round: if `infeasible` and
            `aggregate` disagree; if an update, trust, selection or state is not as `Aggregate`
            says; if what it was given is changed; if the same round gives two answers, also after
            others were played; if hostile buffers leave the range of honest ones, or those of an
            agent without trust change the model; if it draws from torch's global generator; if
            less memory gives another result; if a promise is broken; if it fails; or if its
            parameters do not survive JSON.
    """
    kind = kind_of(type(rule))
    check_survives_json(rule, kind)
    sizes = _sizes(rule, kind, lambda updates: rule.aggregate(updates, {}, _context(rule, WIDTH)))
    cases = [case for n in sizes for case in _cases(n, rule)]
    first = [_aggregate(rule, case, kind) for case in cases]
    with another_global_seed():
        again = [_aggregate(rule, case, kind) for case in reversed(cases)]
    for case, one, other in zip(cases, first, reversed(again), strict=True):
        _check_same(one, other, f"{kind}, {case.name}")
    for n in sizes:
        _check_memory(rule, n, kind, tolerance)
        _check_next_round(rule, n, kind)
        _check_buffers(rule, n, kind)
        if permutation:
            _check_permutation(rule, n, kind, tolerance)
        if idempotent:
            _check_idempotence(rule, n, kind, tolerance)


def check_preaggregator(
    step: PreAggregator, *, permutation: bool = True, tolerance: float = 1e-6
) -> None:
    """Play a step before aggregation on small made-up rounds; see `check_aggregator`.

    Args:
        step: With its parameters as a scenario would set them.
        permutation: Whether it promises that its rows follow the order of the agents.
        tolerance: Of comparisons, in units of the largest value.

    Raises:
        AssertionError: In one line, also if there are not as many rows as `rows` says, or the
            mixing has entries below 0 or rows that add up to more than 1.
    """
    kind = kind_of(type(step))
    check_survives_json(step, kind)
    sizes = _sizes(step, kind, lambda updates: step.prepare(updates, _context(None, WIDTH)))
    cases = [case for n in sizes for case in _cases(n, None)]
    first = [_prepare(step, case, kind) for case in cases]
    with another_global_seed():
        again = [_prepare(step, case, kind) for case in reversed(cases)]
    for case, one, other in zip(cases, first, reversed(again), strict=True):
        same = torch.equal(one, other)
        expect(same, f"{kind}, {case.name}", "the same rows for the same round", "two answers")
    for n in sizes if permutation else ():
        case = _RuleCase(f"{n} rows in another order", _updates(n), _context(None, WIDTH))
        order = _order(n)
        rows = _prepare(step, case, kind)[order]
        moved = _prepare(step, replace(case, updates=_reordered(case.updates, order)), kind)
        _check_close(moved, rows, f"{kind}, {case.name}", "rows in that order", tolerance)


def _sizes(
    method: Aggregator | PreAggregator, kind: str, treat: Callable[[Updates], object]
) -> list[int]:
    """Return numbers of contributions that suit, after checking that the method keeps its word."""
    suits = [n for n in range(1, MOST + 1) if _reason(method, n, kind) is None]
    told = f"a number of contributions up to {MOST} that suits it"
    expect(bool(suits), kind, told, "infeasible() with a reason for each")
    for n in sorted({*range(1, PROBED + 1), *suits[:2]}):
        where, reason = f"{kind}, {n} rows", _reason(method, n, kind)
        raised = None
        with expected("an answer or Infeasible", where):
            try:
                treat(_updates(n))
            except Infeasible as error:
                raised = str(error)
        wanted = (
            "Infeasible, as infeasible() says" if reason else "no Infeasible: infeasible() None"
        )
        expect((raised is None) == (reason is None), where, wanted, str(raised or "an answer"))
    return sorted({*suits[:2], *[n for n in suits if n >= suits[0] + 4][:1]})


def _reason(method: Aggregator | PreAggregator, n: int, kind: str) -> str | None:
    reason = method.infeasible(n)
    line = reason is None or (isinstance(reason, str) and len(reason.splitlines()) == 1)
    expect(line, f"{kind}, {n} rows", "infeasible() to return None or one line", repr(reason))
    return reason


def _cases(n: int, rule: Aggregator | None) -> Iterator[_RuleCase]:
    """Yield rounds of n rows, by name; the draws are the same at each call."""
    tensors = {
        "float64": _rows(n),
        "float32": _rows(n).float(),
        "zero updates": torch.zeros(n, WIDTH, dtype=torch.float64),
        "updates that are alike": _rows(1).repeat(n, 1),
        "huge updates": _rows(n).float() * 1e6,
        "tiny updates": _rows(n).float() * 1e-12,
        "an outlier": torch.cat([_rows(n)[: n - 1], -1e6 * _rows(n)[n - 1 :]]),
        "a single weight": _rows(n)[:, :1].clone(),
    }
    for name, matrix in tensors.items():
        context = _context(rule, matrix.shape[1], matrix.dtype)
        yield _RuleCase(f"{n} rows, {name}", _updates(n, matrix), context)
    shares = torch.arange(n, dtype=torch.float64)
    odd = {"an agent without a share": shares, "one agent with all the share": shares == n - 1}
    for name, weights in odd.items() if n > 1 else ():
        updates = replace(_updates(n), weights=weights.double())
        yield _RuleCase(f"{n} rows, {name}", updates, _context(rule, WIDTH))


def _rows(n: int) -> Tensor:
    """Return rows around a common direction, float64 (n, WIDTH), no two alike."""
    generator = torch_generator(7, "conformance", round=n)
    draws = torch.randn(n + 1, WIDTH, generator=generator, dtype=torch.float64)
    rows = draws[:n] + draws[n]
    lengths: Tensor = torch.linspace(0.5, 1.5, n, dtype=torch.float64) / torch.linalg.vector_norm(
        rows, dim=1
    )
    rows = rows * lengths[:, None]
    return rows


def _updates(n: int, matrix: Tensor | None = None) -> Updates:
    weights = torch.arange(1, n + 1, dtype=torch.float64)
    names = tuple(f"agent-{at:02}" for at in range(n))
    return Updates(_rows(n) if matrix is None else matrix, weights, names)


def _context(rule: Aggregator | None, width: int, dtype: torch.dtype = torch.float64) -> Context:
    """Return what the defender knows; its own update only where the rule declares to need it."""
    own = torch.linspace(0.5, 1.5, width, dtype=dtype)
    return Context(seed=7, own=own if rule is not None and rule.needs_own else None)


def _aggregate(
    rule: Aggregator, case: _RuleCase, kind: str, state: State | None = None
) -> Aggregate:
    """Return what a rule answers, checked for all that is true of every answer."""
    where, updates, state = f"{kind}, {case.name}", case.updates, state or {}
    given = {"matrix": updates.matrix, "weights": updates.weights}
    given |= {f"state {name}": value for name, value in state.items()}
    names = set(state)
    with nothing_changed(given, where), expected("an aggregate", where):
        result = rule.aggregate(updates, state, case.context)
    expect(set(state) == names, where, "the state given left as it is", "other names in it")
    _check_update(result, updates, where)
    _check_trust(result, len(updates), where)
    _check_state(result, updates, where)
    return result


def _check_update(result: Aggregate, updates: Updates, where: str) -> None:
    expect(isinstance(result, Aggregate), where, "an Aggregate", type(result).__name__)
    update, dtype, width = result.update, updates.matrix.dtype, updates.width
    expect(update.shape == (width,), where, f"an update ({width},)", str(tuple(update.shape)))
    expect(update.dtype == dtype, where, f"an update of {dtype}", str(update.dtype))
    expect(bool(torch.isfinite(update).all()), where, "a finite update", "inf or nan")
    lines = all(isinstance(note, str) and len(note.splitlines()) == 1 for note in result.notes)
    fits = isinstance(result.notes, tuple) and lines
    expect(fits, where, "notes as a tuple of lines", repr(result.notes))


def _check_trust(result: Aggregate, n: int, where: str) -> None:
    trust, selected = result.trust, result.selected
    if trust is not None:
        fits = trust.shape == (n,) and trust.dtype == torch.float64 and trust.device.type == "cpu"
        got = f"{trust.dtype} {tuple(trust.shape)} on {trust.device}"
        expect(fits, where, f"trust as float64 ({n},) on the CPU", got)
        fits = bool((trust >= 0).all()) and float(trust.sum()) <= 1 + ROUNDING
        expect(fits, where, "trust >= 0 and at most 1 in all", str(trust.tolist()))
    if selected is not None:
        fits = selected.dtype == torch.bool and selected.shape == (n,)
        got = f"{selected.dtype} {tuple(selected.shape)} on {selected.device}"
        fits = fits and selected.device.type == "cpu"
        expect(fits, where, f"selected as bool ({n},) on the CPU", got)
    if trust is not None and selected is not None:
        none = bool((trust[~selected] == 0).all())
        expect(none, where, "no trust in rows that are not selected", str(trust.tolist()))


def _check_state(result: Aggregate, updates: Updates, where: str) -> None:
    state = result.state
    named = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    expect(named, where, "a state of tensors by name", repr(state))
    rows = updates.matrix.untyped_storage().data_ptr()
    for name, value in {"update": result.update, **state}.items():
        own = value.untyped_storage().data_ptr() != rows
        expect(own, where, f"memory of its own for {name}", "a view of the updates; clone it")


def _check_same(one: Aggregate, other: Aggregate, where: str) -> None:
    pairs = [(one.update, other.update), (one.trust, other.trust), (one.selected, other.selected)]
    pairs += [(one.state[name], other.state.get(name)) for name in one.state]
    same = len(one.state) == len(other.state) and all(
        torch.equal(a, b) if a is not None and b is not None else a is b for a, b in pairs
    )
    expect(same, where, "the same answer whenever it is given the same round", "two answers")


def _check_memory(rule: Aggregator, n: int, kind: str, tolerance: float) -> None:
    case = _RuleCase(f"{n} rows in little memory", _updates(n), _context(rule, WIDTH))
    narrow = replace(case, context=replace(case.context, memory=24 * 2 * n * 8))  # eight columns
    whole, parts = _aggregate(rule, case, kind), _aggregate(rule, narrow, kind)
    where = f"{kind}, {case.name}"
    _check_close(parts.update, whole.update, where, "the update of one chunk", tolerance)


def _check_next_round(rule: Aggregator, n: int, kind: str) -> None:
    """Play two rounds; between them one agent leaves and another comes."""
    case = _RuleCase(f"{n} rows, the first of two rounds", _updates(n), _context(rule, WIDTH))
    state = _aggregate(rule, case, kind).state
    names = tuple(f"agent-{at:02}" for at in range(1, n + 1))
    later = replace(case.updates, matrix=_rows(n).flip(0), agents=names, round=2)
    _aggregate(
        rule, _RuleCase(f"{n} rows, the second of two rounds", later, case.context), kind, state
    )


def _check_buffers(rule: Aggregator, n: int, kind: str) -> None:
    """Let some agents hand over hostile buffers beside the most honest of weights."""
    hostile = min(int(getattr(rule, "f", n // 4)), (n - 1) // 2)
    if rule.undefended or not hostile:
        return
    where, rows = f"{kind}, {n} rows, {hostile} of them with hostile buffers", _rows(n)
    rows[:hostile] = rows[hostile:].mean(0)
    model = nn.BatchNorm1d(5)
    layout = WeightLayout(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    honest = [_measured(layout, before, at) for at in range(n)]
    attacked = [
        _spoilt(layout, state) if at < hostile else state for at, state in enumerate(honest)
    ]
    with expected("a round", where):
        played = _round(rule, rows, layout, attacked, before)
    _check_range(played.standing.buffers, [before, *honest], where)
    trust = None if played.aggregate is None else played.aggregate.trust
    without = [] if trust is None else (trust == 0).nonzero()[:hostile, 0].tolist()
    other = [_spoilt(layout, s) if at in without else s for at, s in enumerate(honest)]
    one, again = (_round(rule, rows, layout, states, before) for states in (honest, other))
    for name, value in one.standing.buffers.items():
        same = torch.equal(value, again.standing.buffers[name])
        expect(same, where, f"{name} without a part of agents of no trust", "another value")


def _measured(layout: WeightLayout, before: State, at: int) -> dict[str, Tensor]:
    """Return an honest agent's state: its statistics differ a little from those of the others."""
    generator = torch_generator(7, "conformance/buffers", round=at + 1)
    state = {name: value.clone() for name, value in before.items()}
    for name in layout.buffers:
        draws = torch.rand(state[name].shape, generator=generator)
        floating = state[name].is_floating_point()
        state[name] += (0.2 * draws if floating else torch.tensor(5)).to(state[name].dtype)
    return state


def _spoilt(layout: WeightLayout, state: State) -> dict[str, Tensor]:
    buffers = {name: state[name] for name in layout.buffers}
    draws = torch_generator(7, "conformance/hostile")
    bad = hostile_buffers(buffers, layout.variances, layout.counters, 1e6, 1e-6, draws)
    return {**state, **bad}


def _round(
    rule: Aggregator, rows: Tensor, layout: WeightLayout, states: Sequence[State], before: State
) -> RoundResult:
    updates = _updates(len(rows), rows)
    buffers = Buffers(updates.agents, layout.stacked(states), layout.variances)
    start = ServerState(torch.zeros(WIDTH, dtype=torch.float64), layout.rest(before))
    context = _context(rule, WIDTH)
    return play_round(DefencePipeline.of([rule]), start, updates, buffers, context, FedAvg())


def _check_range(found: State, states: Sequence[State], where: str) -> None:
    for name, value in found.items():
        honest = torch.stack([state[name] for state in states])
        least, most = honest.amin(0), honest.amax(0)
        fits = bool(((least <= value) & (value <= most)).all())
        expect(fits, where, f"{name} in the range of honest agents'", str(value.tolist()))


def _check_permutation(rule: Aggregator, n: int, kind: str, tolerance: float) -> None:
    case = _RuleCase(f"{n} rows in another order", _updates(n), _context(rule, WIDTH))
    where, order = f"{kind}, {case.name}", _order(n)
    given = _aggregate(rule, case, kind)
    moved = _aggregate(rule, replace(case, updates=_reordered(case.updates, order)), kind)
    _check_close(moved.update, given.update, where, "the same update", tolerance)
    if given.trust is not None and moved.trust is not None:
        _check_close(moved.trust, given.trust[order], where, "trust in that order", tolerance)
    if given.selected is not None and moved.selected is not None:
        same = torch.equal(moved.selected, given.selected[order])
        expect(same, where, "a selection in that order", str(moved.selected.tolist()))


def _check_idempotence(rule: Aggregator, n: int, kind: str, tolerance: float) -> None:
    for dtype in (torch.float32, torch.float64):
        row = _rows(1)[0].to(dtype)
        alike = _updates(n, row.repeat(n, 1))
        case = _RuleCase(f"{n} equal rows of {dtype}", alike, _context(rule, WIDTH, dtype))
        result = _aggregate(rule, case, kind)
        _check_close(result.update, row, f"{kind}, {case.name}", "that row", tolerance)


def _prepare(step: PreAggregator, case: _RuleCase, kind: str) -> Tensor:
    """Return the rows that a step makes, (m, d), checked."""
    where, given = f"{kind}, {case.name}", case.updates
    told = {"matrix": given.matrix, "weights": given.weights}
    with nothing_changed(told, where), expected("updates", where):
        after = step.prepare(given, case.context)
    expect(isinstance(after, Updates), where, "Updates", type(after).__name__)
    rows = after.some(torch.arange(after.width))
    shape = (step.rows(len(given)), given.width)
    expect(rows.shape == shape, where, f"rows {shape}, as rows() says", str(tuple(rows.shape)))
    expect(rows.dtype == given.matrix.dtype, where, f"{given.matrix.dtype}", str(rows.dtype))
    expect(bool(torch.isfinite(rows).all()), where, "finite rows", "inf or nan")
    if after.mixing is not None:
        sums = float(after.mixing.sum(1).max())
        fits = bool((after.mixing >= 0).all()) and sums <= 1 + ROUNDING
        expect(fits, where, "mixing >= 0 with rows that add up to 1 at most", f"{sums}")
    return rows


def _order(n: int) -> Tensor:
    """Return an order of n rows that is not theirs (but for n = 1)."""
    return torch.arange(n).roll(1).flip(0) if n > 2 else torch.arange(n).flip(0)


def _reordered(updates: Updates, order: Tensor) -> Updates:
    names = tuple(updates.agents[at] for at in order.tolist())
    rows, weights = updates.matrix[order], updates.weights[order]
    return replace(updates, matrix=rows, weights=weights, agents=names)


def _check_close(found: Tensor, wanted: Tensor, where: str, what: str, tolerance: float) -> None:
    apart = float((found - wanted).abs().max())
    far = max(float(wanted.abs().max()), 1e-300) * tolerance
    expect(apart <= far, where, f"{what} within {far:.1e}", f"one {apart:.1e} away")
