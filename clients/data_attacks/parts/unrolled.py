"""The gradient of a loss at the end of some steps of gradient descent, by the rows descended on.

Of steps ``w_{t+1} = w_t - rate * grad f(w_t)`` and a loss with the gradient g at w_T, the adjoint
runs back from p_T = g by ``p_t = p_{t+1} - rate * H_t p_{t+1}``, and the gradient by the rows is
minus rate times the sum of the gradients by rows of ``<p_{t+1}, grad f(w_t)>`` (Maclaurin et al.
2015; Munoz-Gonzalez et al. 2017). The public code of the latter runs the descent backwards by
adding the gradient at the point reached, which is off by ``rate^2 H grad f`` in each step; here the
weights are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from learning.curvature.objective import RowObjective

if TYPE_CHECKING:
    from torch import Tensor


def descended(objective: RowObjective, start: Tensor, rate: float, steps: int) -> list[Tensor]:
    """Return the weights of plain gradient descent, w_0 to w_T, each (P,)."""
    weights = [start]
    for _ in range(steps):
        weights.append(weights[-1] - rate * objective.gradient(weights[-1]))
    return weights


def unrolled_gradient(
    objective: RowObjective,
    weights: list[Tensor],
    rate: float,
    gradient: Callable[[Tensor], Tensor],
    rows: slice,
) -> Tensor:
    """Return the gradient, by some of the rows, of a loss at the end of a descent.

    Args:
        objective: What was descended on.
        weights: w_0 to w_T, as `descended` returns them.
        rate: Of the descent.
        gradient: Of the loss, of weights (P,).
        rows: Of the objective.

    Returns:
        Of the shape of these rows.
    """
    adjoint, out = gradient(weights[-1]), None
    for before in reversed(weights[:-1]):
        found = objective.crossed(before, adjoint, rows)
        out = found if out is None else out + found
        adjoint = adjoint - rate * objective.product(before, "hessian")(adjoint)
    if out is None:
        raise ValueError("unrolled gradient: expected at least one step, got none")
    return -rate * out
