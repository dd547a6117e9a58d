"""A follower trained to a stationary point, or word that it is not at one.

Newton's method with conjugate gradients and backtracking. Without backtracking it diverges on
poisoned softmax regression, and the wreck is counted as damage (15 points were seen that way); so
what comes back always says how steep the loss still is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from learning.curvature.objective import RowObjective
from learning.curvature.products import Kind
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.solvers.kronecker import Kronecker
from learning.curvature.solvers.solution import Operator
from learning.training.device import repeatable

if TYPE_CHECKING:
    from torch import Tensor

# Share of the decrease that the slope promises (Armijo), and the shortest step that is tried.
_PROMISED, _SHORTEST = 1e-4, 2.0**-40


@dataclass(frozen=True, eq=False)
class Stationary:
    """Weights that a search for a stationary point ended at.

    Attributes:
        weights: (P,).
        steepness: Length of the gradient there, ridge included.
        tolerance: What it was to be at most.
        steps: Newton steps taken.
        products: Products with the curvature in all.
    """

    weights: Tensor
    steepness: float
    tolerance: float
    steps: int
    products: int

    @property
    def reached(self) -> bool:
        """Whether the weights are stationary to the tolerance."""
        return self.steepness <= self.tolerance

    def insisted(self) -> Tensor:
        """Return the weights.

        Raises:
            RuntimeError: If they are not stationary.
        """
        if not self.reached:
            raise RuntimeError(
                f"a follower that is used as converged: expected a gradient of at most "
                f"{self.tolerance:g}, got {self.steepness:.3g} after {self.steps} steps: "
                "raise the ridge or the steps, or do not use it as converged"
            )
        return self.weights


@repeatable()
def stationary(
    objective: RowObjective,
    start: Tensor,
    *,
    tolerance: float = 1e-6,
    most: int = 100,
    inner: int = 250,
    kind: Kind = "hessian",
    kronecker: Kronecker | None = None,
) -> Stationary:
    """Minimise an objective to a gradient of `tolerance` or less, as far as it comes.

    Made for convex ones: softmax regression and least squares with a ridge. Without a ridge,
    separable rows have no minimum, and it says that none was reached.

    Args:
        objective: f.
        start: First weights, (P,), float64 for tolerances beneath 1e-5 or so.
        tolerance: Length of the gradient, > 0.
        most: Newton steps at most.
        inner: Conjugate-gradient steps at most, for each of them.
        kind: The curvature; `gauss_newton` where f is not convex.
        kronecker: That of the rows, for softmax regression with a ridge: on digits with a
            tenth of flipped labels it saves a third of the products, and two thirds where the
            ridge is small; where labels are clean and few, next to none.

    Raises:
        ValueError: With `kronecker` and no ridge.
    """
    weights, steps, products = start.clone(), 0, 0
    value, slope = objective.value(weights), objective.gradient(weights)
    while steps < most and float(slope.norm()) > tolerance:
        # the closer, the more exactly: convergence is faster than linear
        near = _near(objective, weights, kronecker)
        close = min(0.1, float(slope.norm()) ** 0.5)
        found = conjugate_gradients(
            objective.product(weights, kind), 0.0, slope, close, inner, None, near
        )
        steps, products = steps + 1, products + found.products
        ahead = found.vector if float(found.vector @ slope) > 0 else slope
        moved = _backtracked(objective, weights, value, slope, ahead)
        if moved is None:
            break
        weights, value, slope = moved
    return Stationary(weights, float(slope.norm()), tolerance, steps, products)


def _near(objective: RowObjective, weights: Tensor, kronecker: Kronecker | None) -> Operator | None:
    if kronecker is None:
        return None
    return kronecker.preconditioner(objective.chances(weights), objective.ridge)


def _backtracked(
    objective: RowObjective, weights: Tensor, value: float, slope: Tensor, ahead: Tensor
) -> tuple[Tensor, float, Tensor] | None:
    """Return weights that are lower, with f and its gradient, or None where there are none."""
    size, promised = 1.0, _PROMISED * float(slope @ ahead)
    while size >= _SHORTEST:
        there = weights - size * ahead
        found = objective.value(there)
        if found <= value - size * promised:
            return there, found, objective.gradient(there)
        # so close to a minimum that f is flat to rounding, the gradient decides
        rounding = 16 * torch.finfo(torch.float64).eps * abs(value)
        if abs(found - value) <= rounding:
            steep = objective.gradient(there)
            if float(steep.norm()) < float(slope.norm()):
                return there, found, steep
        size /= 2
    return None
