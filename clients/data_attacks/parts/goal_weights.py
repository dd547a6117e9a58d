"""How an attacker gets the weights it wants of a model trained on the clean rows it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from clients.data_attacks.parts.cancellation import Cancellation, Layers, bounds
from clients.data_attacks.parts.follower import trained
from clients.data_attacks.parts.goals import Flipped, Goal, GradPC, Natural, Reach
from learning.curvature.objective import RowObjective
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.vectors import vector_of
from learning.shares import count_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.data_attacks.parts.crafter import CraftingProblem

_SAMPLE = 6000  # rows that curvature is computed on, at most
_HALVINGS = 20  # of an interval of steps: to a millionth of the whole


class GoalWeights:
    """A clean model, and the weights that an attacker wants in their place.

    Args:
        problem: What is crafted, and what is known.
        layers: Whose gradient is to be cancelled.

    Attributes:
        module: The clean surrogate.
        clean: Its weights, (P,).
    """

    def __init__(self, problem: CraftingProblem, layers: Layers = "all") -> None:
        self._problem, self._layers = problem, layers
        self.module: nn.Module = problem.surrogate()
        self.clean = vector_of(self.module)
        x, y, judge_x, judge_y = problem.on_device(
            problem.known_x, problem.known_y, problem.judge_x, problem.judge_y
        )
        self._known = RowObjective(self.module, x, y)
        self._judges = RowObjective(self.module, judge_x, judge_y)

    def wanted(self, goal: Goal) -> Tensor:
        """Return the weights of a goal, (P,), in reach or not; of `reach` a unit step."""
        if isinstance(goal, GradPC):
            return ascended(self._judges, self.clean, goal.radius, goal.steps)
        if isinstance(goal, Flipped):
            return self._flipped(goal.rate)
        if isinstance(goal, Natural):
            return self.clean + goal.length * self._natural(goal)
        if isinstance(goal, Reach):
            return self.clean + self._natural(goal)
        raise TypeError(f"expected a goal of this house, got {type(goal).__name__}")

    def at(self, weights: Tensor) -> Cancellation:
        """Return what is to be cancelled to hold the defender's model at some weights."""
        epsilon = self._problem.share / (1 - self._problem.share)
        slope = self._known.gradient(weights)
        return Cancellation(self.module, weights, slope, epsilon, self._layers)

    def within_reach(self, goal: Goal, shrink: bool = True) -> Cancellation:
        """Return a target that neither bound on the poison rules out.

        Args:
            goal: The target.
            shrink: Whether one out of reach is moved towards the clean model until it passes.

        Raises:
            ValueError: If the target is out of reach and may not be moved, or if no move helps.
        """
        wanted = self.wanted(goal)
        whole = self._reason(wanted)
        if whole and not shrink and not isinstance(goal, Reach):
            raise ValueError(f"{whole}; give it more rows, or a nearer target")
        if closest := self._reason(self.clean):
            raise ValueError(f"{closest}, even for the clean model; more rows or epochs help")
        step = farthest(self._allowed(wanted), most=2.0**10 if isinstance(goal, Reach) else 1.0)
        return self.at(self._between(wanted, step))

    def _between(self, wanted: Tensor, step: float) -> Tensor:
        return wanted if step == 1 else self.clean + step * (wanted - self.clean)

    def _allowed(self, wanted: Tensor) -> Callable[[float], bool]:
        return lambda step: not self._reason(self._between(wanted, step))

    def _reason(self, weights: Tensor) -> str:
        """Return why some weights are out of reach; empty where no bound says so."""
        goal = self.at(weights)
        found = bounds(goal, self._problem.x.shape[1:])
        if found.allows(goal.epsilon):
            return ""
        return (
            f"target out of reach: it takes poison of at least {found.least:.3g} of the clean "
            f"rows ({found.by_labels:.3g} by its labels, {found.by_box:.3g} by the range of "
            f"inputs), and the attacker has {goal.epsilon:.3g}"
        )

    def _natural(self, goal: Natural | Reach) -> Tensor:
        draws = self._problem.generator("curvature rows")
        rows = torch.randperm(len(self._known.y), generator=draws)[:_SAMPLE]
        some = replace(self._known, x=self._known.x[rows], y=self._known.y[rows])
        product = some.product(self.clean, "gauss_newton")
        slope = self._judges.gradient(self.clean)
        return conjugate_gradients(product, goal.damping, slope, 1e-3, goal.iterations).vector

    def _flipped(self, rate: float) -> Tensor:
        problem = self._problem
        count = max(1, count_of(rate, len(problem.known_y)))
        draws = problem.generator("flipped rows")
        rows = torch.randperm(len(problem.known_y), generator=draws)[:count].numpy()
        x = np.concatenate([problem.known_x, problem.known_x[rows]])
        false = problem.recipe.classes - 1 - problem.known_y[rows]
        y = np.concatenate([problem.known_y, false])
        return vector_of(trained(problem.recipe, x, y, epochs=problem.epochs))


def ascended(judges: RowObjective, start: Tensor, radius: float, steps: int) -> Tensor:
    """Return weights after normalised ascent in a ball: w + g / |g|, then back into the ball.

    Args:
        judges: The loss to raise.
        start: Centre of the ball, (P,).
        radius: Of the ball, L2.
        steps: Steps.
    """
    moved = torch.zeros_like(start)
    for _ in range(steps):
        slope = judges.gradient(start + moved)
        moved = moved + slope / slope.norm().clamp(min=torch.finfo(slope.dtype).tiny)
        moved = moved * min(1.0, radius / float(moved.norm().clamp(min=1e-30)))
    return start + moved


def farthest(allowed: Callable[[float], bool], most: float) -> float:
    """Return the longest step found that is allowed, by doubling from 1 and then halving.

    Args:
        allowed: Whether a step is; 0 is.
        most: Longest step tried, 1 or a power of 2.
    """
    good, step = 0.0, 1.0
    while step <= most and allowed(step):
        good, step = step, 2 * step
    if step > most:
        return good
    bad = step
    for _ in range(_HALVINGS):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if allowed(middle) else (good, middle)
    return good
