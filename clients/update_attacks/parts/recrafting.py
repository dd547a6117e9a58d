"""Rows moved along the total gradient at a model that is given, not trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from clients.data_attacks.parts.follower import shares_of
from clients.data_attacks.parts.leaders import Pixels
from learning.curvature.objective import RowObjective
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.vectors import vector_of
from learning.training.device import repeatable

if TYPE_CHECKING:
    from torch import Tensor

    from clients.update_attacks.local_rows import LocalKnowledge
    from learning.pool import Floats, Ints

_TOLERANCE = 1e-3  # of the relative residual, as in total_gradient
_MOST_SHARE = 0.5  # of the poison in the curvature: an agent that is alone still has clean rows


@dataclass(frozen=True, kw_only=True)
class Moves:
    """How the rows are moved; see the fields of `recraft`."""

    steps: int
    step: float
    iterations: int
    damping: float | None
    radius: float | None


def recrafted(moves: Moves, known: LocalKnowledge, y: Ints) -> Floats:
    """Return rows that make the broadcast model worse for whoever trains on them.

    The judges are the agent's clean rows. The curvature is that of the clean rows and of the rows
    as they are moved, which have the agent's share of the loss. The model stays where it is.

    Args:
        moves: How they are moved.
        known: The agent's rows and the model.
        y: Labels that the rows go by, int64 (m,).

    Returns:
        float32 (m, C, H, W), in [0, 1]; the same bytes for any number of CPU threads.

    Raises:
        ValueError: If they are no longer numbers.
    """
    with repeatable():
        moved = _moved(moves, known, y).cpu().numpy().astype(np.float32)
    if not np.isfinite(moved).all():
        raise ValueError(
            "recraft: expected rows that are numbers; the broadcast model may have "
            "diverged, or its steps may be too large"
        )
    return np.asarray(np.clip(moved, 0, 1), dtype=np.float32)


def _moved(moves: Moves, known: LocalKnowledge, labels: Ints) -> Tensor:
    module = known.model()
    weights = vector_of(module)
    clean_x, clean_y, x, y = (
        torch.tensor(array, device=weights.device)
        for array in (known.clean.x, known.clean.y, known.contributed.x, labels)
    )
    wanted = RowObjective(module, clean_x, clean_y).gradient(weights)
    share = min(known.share, _MOST_SHARE)
    shares = shares_of(share, len(clean_y), len(y)).to(weights)
    damping = 1 / (known.rate * known.steps) if moves.damping is None else moves.damping
    leader, solved = Pixels(x, moves.step, moves.radius), None
    for _ in range(moves.steps):
        rows, answers = torch.cat([clean_x, leader.rows]), torch.cat([clean_y, y])
        pool = RowObjective(module, rows, answers, shares)
        product = pool.product(weights, "gauss_newton")
        solved = conjugate_gradients(
            product, damping, wanted, _TOLERANCE, moves.iterations, solved
        ).vector
        leader.ascend(-pool.crossed(weights, solved, slice(len(clean_y), None)), 1.0)
    return leader.rows
