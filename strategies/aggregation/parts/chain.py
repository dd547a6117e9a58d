"""Pre-aggregation steps and a rule, played one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from strategies.aggregation.base import Aggregate, Aggregator, Context, PreAggregator, State
from strategies.aggregation.updates import Updates


def infeasible(rule: Aggregator, steps: Sequence[PreAggregator], n: int) -> str | None:
    """Return why the steps and then the rule cannot treat `n` contributions, or None."""
    for step in steps:
        if (reason := step.infeasible(n)) is not None:
            return reason
        n = step.rows(n)
    return rule.infeasible(n)


def aggregate(
    rule: Aggregator,
    steps: Sequence[PreAggregator],
    updates: Updates,
    state: State,
    context: Context,
) -> Aggregate:
    """Treat the updates of one round with `steps` and aggregate them with `rule`.

    Returns:
        The rule's aggregate, with `trust` and `selected` for the agents of `updates`: an agent's
        share is that of all rows that it went into, and it is selected where one of them is. Both
        are None where a step did not say what its rows are made of.

    Raises:
        Infeasible: If `infeasible` says so.
        NotFinite: If the result is not finite.
    """
    rows = updates
    for step in steps:
        rows = step.prepare(rows, context)
    result = rule.aggregate(rows, state, context)
    same = rows.matrix is updates.matrix
    if same and rows.mixing is updates.mixing:
        return result
    if not same or rows.mixing is None or updates.mixing is not None:
        return replace(result, trust=None, selected=None)
    mixing, selected = rows.mixing, result.selected
    return replace(
        result,
        trust=None if result.trust is None else result.trust @ mixing,
        selected=None if selected is None else _any_selected(selected, mixing),
    )


def _any_selected(selected: Tensor, mixing: Tensor) -> Tensor:
    return (selected.double() @ (mixing > 0).double()) > 0
