"""How much poison a target takes, before an iteration is spent on it, in closed form.

Poison holds weights Theta (classes, D; biases count as weights of a constant input) where the mean
gradient g of the clean rows is cancelled: ``g + epsilon mean(poison gradients) = 0``, epsilon the
poison's mass over the clean mass. A row a with label y has ``<Theta, gradient> = sum_k p_k z_k -
z_y >= -W((K - 1) / e)``, with equality at logit z_y = 1 + W and 0 for all others, W Lambert's
function; and its gradient is no longer than ``sqrt(2) |a|``. So both of these are necessary:

    epsilon >= <Theta, g> / W((K - 1) / e)          epsilon >= |g| / (sqrt(2) max |a|)

The first is the threshold of Lu, Kamath, Yu (Gradient Canceling, ICML 2023), free of any box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.special import lambertw

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reachability:
    """Poison that a target takes at least, as a share of the clean mass.

    Attributes:
        by_labels: The least epsilon if inputs were unbounded; 0 where cancelling costs nothing.
        by_box: The least epsilon by the length of the gradient; 0 for unbounded inputs.
    """

    by_labels: float
    by_box: float

    @property
    def least(self) -> float:
        """The larger of the two, below which the target is out of reach."""
        return max(self.by_labels, self.by_box)

    def allows(self, epsilon: float) -> bool:
        """Return whether neither bound rules the target out; it may still be out of reach."""
        return epsilon >= self.least


def lambert_bound(classes: int) -> float:
    """Return W((K - 1) / e), the most that a row of poison takes from ``<Theta, gradient>``.

    Raises:
        ValueError: For less than 2 classes.
    """
    if classes < 2:
        raise ValueError(f"reachability: expected 2 classes or more, got {classes}")
    return float(lambertw((classes - 1) / math.e).real)


def longest_row(
    shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, bias: bool = True
) -> float:
    """Return max |a| over inputs of a shape with values from low to high; a bias adds a 1."""
    return math.sqrt(math.prod(shape) * max(low**2, high**2) + bias)


def reachability(theta: Tensor, gradient: Tensor, longest: float = math.inf) -> Reachability:
    """Return how much poison holds weights of softmax regression where they are.

    Args:
        theta: Theta, (classes, D).
        gradient: g, the **mean** gradient of the clean rows there, (classes, D).
        longest: max |a| of a poison row (`longest_row`); infinite for no box.
    """
    along = float((theta * gradient).sum())
    length = float(torch.linalg.vector_norm(gradient))
    by_box = length / (math.sqrt(2) * longest)
    return Reachability(max(0.0, along / lambert_bound(len(theta))), by_box)
