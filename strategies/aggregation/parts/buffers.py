"""What becomes of a model's buffers: they share the fate of the updates that they came with.

Buffers (BatchNorm's running statistics, its counters, any other) take no part in distances, norms
and votes: they are on scales of their own, and would drown the weights. So a rule's decision is
carried over to them. Where it gives every update a share, the buffers get the same shares, and what
the shares leave of 1 stays with the model's own buffers, as it does with its weights. Where it
chooses anew in each coordinate, a buffer's entries are medians: of the updates that it has
selected, if it says which. Whole numbers are weighted medians.

An update can have the weights of an honest agent and the buffers of an attacker. Whose buffers are
`FAR` times as far from the median as is usual among the agents of the round has no say in them; the
shares of the others are scaled up. Where the rule has taken nobody else (Krum takes one), the
median of the agents that are not far off stands in. That is sound as long as most of those that
are compared are honest: all agents of the round, or, for a rule that does not count on an honest
majority (`Aggregator.majority`), those whom it trusts. The plain mean (`Aggregator.undefended`)
averages what it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from strategies.aggregation.base import Aggregate, Aggregator

# How many times as far from the median as the usual agent of its round an honest one may be.
FAR = 6.0
# Coordinates in which agents hardly differ count as if they differed by this share of the mean.
LEAST_SPREAD = 0.5
# Fewer agents have no majority.
MAJORITY = 3
# Shares that add up to 1 but for rounding leave nothing over.
ROUNDING = 1e-9
# So many agents are named in a line.
NAMED = 5

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Buffers:
    """The buffers of a round's agents.

    Attributes:
        agents: Their names, in the order of the updates.
        values: By name, each (n, ...), finite, of any dtype.
        variances: For each that is a variance, what its layer adds before it takes the root.
    """

    agents: tuple[str, ...] = ()
    values: State = field(default_factory=dict)
    variances: Mapping[str, float] = field(default_factory=dict)

    def part(self, whole: bool) -> State:
        """Return the buffers of whole numbers (and truth values), or the others."""
        return {n: v for n, v in self.values.items() if v.is_floating_point() is not whole}


def aggregate_buffers(
    buffers: Buffers, before: State, result: Aggregate, rule: Aggregator, steps: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the model's new buffers, and lines for the report.

    Args:
        buffers: What the agents have handed over.
        before: The model's own, and whatever else it holds besides weights, which stays.
        result: What the rule made of the updates.
        rule: Which rule it was.
        steps: Whether there were steps before it.

    Returns:
        The buffers in their dtypes. Every entry lies between those of the agents and the model's
        own, so that what is nowhere negative stays so; whole numbers stay whole.
    """
    if rule.undefended and not steps and result.trust is not None:
        return {**before, **_mixed(buffers.values, before, result.trust)}, ()
    taken = _taken(result, len(buffers.agents))
    if not bool(taken.any()):
        return dict(before), ()
    floats, whole = buffers.part(whole=False), buffers.part(whole=True)
    compared = torch.ones_like(taken) if rule.majority else taken
    far, miscounted = torch.zeros_like(taken), torch.zeros_like(taken)
    far[compared] = _few(far_off(_of(floats, compared), buffers.variances), compared)
    miscounted[compared] = _few(_miscounted(_of(whole, compared), before), compared)
    new = {
        **before,
        **_floats(floats, before, result.trust, _heard(taken, far)),
        **_whole(whole, result.trust, _heard(taken, miscounted)),
    }
    return new, _told(buffers.agents, taken & (far | miscounted))


def _told(agents: tuple[str, ...], ignored: Tensor) -> tuple[str, ...]:
    names = [name for name, out in zip(agents, ignored.tolist(), strict=True) if out]
    few = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if names[NAMED:] else "")
    return (f"buffers far from those of the others have no say: {few}",) if names else ()


def _floats(values: State, before: State, trust: Tensor | None, heard: Tensor) -> dict[str, Tensor]:
    shares = None if trust is None else torch.where(heard, trust, 0.0)
    if trust is not None and shares is not None and bool(shares.any()):
        return _mixed(values, before, shares * (trust.sum() / shares.sum()))
    total = torch.ones(1, dtype=torch.float64) if trust is None else trust.sum().reshape(1)
    middle = {name: _median(rows[heard])[None].to(rows.dtype) for name, rows in values.items()}
    return _mixed(middle, before, total)


def _whole(values: State, trust: Tensor | None, heard: Tensor) -> dict[str, Tensor]:
    weights = heard.double()
    if trust is not None and bool(trust[heard].any()):
        weights = torch.where(heard, trust, 0.0)
    return {name: _weighted_median(rows, weights) for name, rows in values.items()}


def _taken(result: Aggregate, n: int) -> Tensor:
    """Return which updates have a part in the aggregate, bool (n,)."""
    if result.trust is not None:
        return result.trust > 0
    return torch.ones(n, dtype=torch.bool) if result.selected is None else result.selected


def _of(values: State, rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in values.items()}


def _few(far: Tensor, compared: Tensor) -> Tensor:
    """Return who is far off of those compared: nobody where that would be most, or is unknown."""
    few = len(far) > 0 and 2 * int(far.sum()) < len(far)
    return far if few else torch.zeros(int(compared.sum()), dtype=torch.bool)


def _heard(taken: Tensor, far: Tensor) -> Tensor:
    """Return who has a say: those taken that are not far off, else all that are not."""
    return taken & ~far if bool((taken & ~far).any()) else ~far


def _mixed(values: State, before: State, shares: Tensor) -> dict[str, Tensor]:
    """Return the sum of buffers (n, ...) by shares (n,), and of the model's own by what is left."""
    rest = 1 - float(shares.sum())
    out = {}
    for name, rows in values.items():
        total = torch.tensordot(shares, rows.double(), 1)
        if rest > ROUNDING:
            total = total + rest * before[name].double()
        out[name] = (total if rows.is_floating_point() else total.round()).to(rows.dtype)
    return out


def _median(rows: Tensor) -> Tensor:
    """Return the median of each entry of (n, ...), the mean of two for an even n, in float64."""
    ordered = rows.double().sort(dim=0).values
    return (ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2


def _weighted_median(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the lower weighted median of each entry of whole numbers (n, ...)."""
    ordered, order = rows.sort(dim=0)
    reached = weights[order].cumsum(0) >= weights.sum() / 2 * (1 - ROUNDING)
    return ordered.gather(0, reached.int().argmax(0, keepdim=True))[0]


def far_off(values: State, variances: Mapping[str, float]) -> Tensor:
    """Return whose buffers are far from those of most agents, bool (n,).

    For each tensor and agent, the distance from the median is measured in each coordinate in units
    of the agents' median distance there. The root mean square and the largest of these are
    compared with those of the median agent. Variances are compared by their logarithms.

    Args:
        values: Buffers of n >= 1 agents, each (n, ...), floating point.
        variances: As in `Buffers`.
    """
    n = next((len(rows) for rows in values.values()), 0)
    far = torch.zeros(n, dtype=torch.bool)
    for name, rows in values.items():
        rows = rows.double().reshape(n, -1)
        if name in variances:
            rows = (rows.clamp(min=0) + variances[name]).log()
        for size in _sizes(rows) if n >= MAJORITY and rows.numel() else ():
            far |= size > FAR * _median(size)
    return far


def _sizes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far each of n rows is from their median, on the whole and at most, (n,) each."""
    apart = (rows - _median(rows)).abs()
    spread = _median(apart)
    unit = spread.clamp(min=LEAST_SPREAD * float(spread.mean()))
    if not bool(spread.any()):  # in each coordinate most are alike
        unit = apart.mean().expand_as(spread)
    ratio = torch.where(apart > 0, apart / unit, 0.0)
    return ratio.square().mean(1).sqrt(), ratio.amax(1)


def _miscounted(values: State, before: State) -> Tensor:
    """Return whose whole numbers have changed far more than, or not as, those of most, bool (n,).

    Args:
        values: Buffers of n agents, each (n, ...), whole numbers or truth values.
        before: The model's own.
    """
    n = next((len(rows) for rows in values.values()), 0)
    far = torch.zeros(n, dtype=torch.bool)
    for name, rows in values.items():
        changes = (rows.double() - before[name].double()).reshape(n, -1)
        usual = _median(changes)
        apart = (changes - usual).abs()
        if n >= MAJORITY:
            far |= (apart > FAR * torch.maximum(usual.abs(), _median(apart))).any(1)
    return far
