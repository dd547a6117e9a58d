"""Rows whose gradient is aligned with another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clients.data_attacks.parts.leaders import Pixels, cooled
from learning.curvature.objective import RowObjective
from learning.curvature.row_gradient import row_gradient
from learning.curvature.vectors import vector_of

if TYPE_CHECKING:
    from torch import Tensor

    from clients.data_attacks.parts.crafter import CraftingProblem


def slope_of_cosine(gradient: Tensor, wanted: Tensor) -> Tensor:
    """Return the gradient of ``1 - cos(g, t)`` by g, (P,); zeros where one of them is 0."""
    length, size = torch.linalg.vector_norm(gradient), torch.linalg.vector_norm(wanted)
    if not float(length) * float(size) > 0:
        return torch.zeros_like(gradient)
    unit = gradient / length
    slope: Tensor = (unit * (unit @ wanted) - wanted) / (length * size)
    return slope


def matched(problem: CraftingProblem, rounds: int, step: float, radius: float | None) -> Tensor:
    """Return rows whose gradient at a clean surrogate points against that of the judges' loss.

    Training goes against the gradient, so that a step on the rows goes up the judges' loss.

    Args:
        problem: The rows, and what is known.
        rounds: Steps of the rows.
        step: Of a pixel by Adam.
        radius: Largest change of a pixel; None for none.
    """
    x, y, judge_x, judge_y = problem.on_device(
        problem.x, problem.y, problem.judge_x, problem.judge_y
    )
    module = problem.surrogate()
    weights = vector_of(module)
    wanted = -RowObjective(module, judge_x, judge_y).gradient(weights)
    pixels = Pixels(x, step, radius)
    for number in range(rounds):
        own = RowObjective(module, pixels.rows, y).gradient(weights)
        uphill = row_gradient(module, pixels.rows, y, slope_of_cosine(own, wanted))
        pixels.ascend(-uphill, cooled(number, rounds))
    return pixels.rows
