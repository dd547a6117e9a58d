"""What min-max and min-sum share: a direction, and how far one may go along it.

Shejwalkar, Houmansadr, Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses
for Federated Learning, NDSS 2021, sections IV-A and IV-C: the update is ``mean - gamma * p`` with
one of three perturbations p, and the largest gamma for which the distances to the updates x_i that
are seen stay within a bound.

With ``c_i = x_i - mean`` the squared distances are ``|c_i|^2 + 2 gamma c_i.p + gamma^2 |p|^2``: one
Gram matrix of the c_i and p gives them for every gamma. The gammas within the bound are an
interval from 0, which is bisected. The paper's code adds and subtracts halves of a first guess of
10 until a step is below 1e-5, so that it finds none above 20, and 0 where updates are small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING, Literal

import torch

from clients.update_attacks.base import View
from clients.update_attacks.parts.moments import (
    deviation_of,
    mean_of,
    products_about,
    squared_distances,
)
from clients.update_attacks.parts.vectors import fitting

if TYPE_CHECKING:
    from torch import Tensor

Perturbation = Literal["unit", "sign", "std"]


@dataclass(frozen=True, eq=False)
class Cloud:
    """The updates seen, about their mean, in squared distances.

    Attributes:
        squares: ``|c_i|^2``, float64 (k,).
        along: ``c_i.p``, float64 (k,).
        length: ``|p|^2``.
        apart: Of each pair of updates, float64 (k, k).
    """

    squares: Tensor
    along: Tensor
    length: float
    apart: Tensor

    @classmethod
    def of(cls, seen: Tensor, mean: Tensor, p: Tensor) -> Cloud:
        """Measure the updates `seen`, (k, d), their mean (d,) and the perturbation p (d,)."""
        products = products_about(mean, seen, p)
        inner, squares = products[:-1, :-1], products.diagonal()[:-1]
        apart = (squares[:, None] + squares - 2 * inner).clamp(min=0)
        return cls(squares, products[-1, :-1], float(products[-1, -1]), apart)

    def squared(self, gamma: float) -> Tensor:
        """Return the squared distances of ``mean - gamma * p``, float64 (k,)."""
        return self.squares + 2 * gamma * self.along + gamma**2 * self.length

    @property
    def reach(self) -> float:
        """A gamma beyond which ``mean - gamma * p`` is farther from an update than any other is.

        The mean lies amid the updates, so it is no farther from that point than one of them is;
        and no two are farther apart than twice the farthest is from the mean.
        """
        return 2 * float(self.squares.max() / self.length) ** 0.5 if self.length > 0 else 0.0


def perturbation(kind: Perturbation, seen: Tensor, mean: Tensor) -> Tensor:
    """Return p, float64 (d,): the unit vector of the mean, its signs, or the deviation of `seen`.

    The paper calls -p the inverse of each. The unit vector of a mean of 0 is 0 here.
    """
    if kind == "sign":
        return mean.sign()
    if kind == "std":
        return deviation_of(seen)
    length = torch.linalg.vector_norm(mean)
    return mean / length if length > 0 else mean


def farthest(
    view: View,
    kind: Perturbation,
    tolerance: float,
    measure: Callable[[Tensor], Tensor],
    bound: Callable[[Cloud], Tensor],
) -> Tensor:
    """Return ``mean - gamma * p`` for the largest gamma within a bound, as an update (d,).

    The update as it is handed over, rounded to its dtype, keeps the bound: where rounding breaks
    it, a smaller gamma is taken, and at last the update seen that is closest to the mean. Where p
    is 0 it is the mean; of one update seen it is that one.

    Args:
        view: What the attacker knows.
        kind: The perturbation.
        tolerance: Of gamma, in parts of `Cloud.reach`.
        measure: What must not exceed the bound, from squared distances (k,) to the updates seen;
            convex, and within the bound at gamma 0.
        bound: The most that `measure` may be.
    """
    seen, mean = view.seen, mean_of(view.seen)
    p = perturbation(kind, seen, mean)
    cloud = Cloud.of(seen, mean, p)
    most = bound(cloud)
    gamma = _largest(lambda g: bool(measure(cloud.squared(g)) <= most), cloud.reach, tolerance)
    for share in _shares(tolerance):
        update = fitting(mean - share * gamma * p, view.own.dtype)
        if measure(squared_distances(seen, update)) <= most:
            return update
    return seen[int(cloud.squares.argmin())].to(view.own.dtype, copy=True)


def _largest(within: Callable[[float], bool], reach: float, tolerance: float) -> float:
    """Return a gamma that is within, and at most ``tolerance * reach`` below one that is not."""
    low, high = 0.0, reach
    for _ in range(ceil(log2(1 / tolerance))):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


def _shares(tolerance: float) -> Iterator[float]:
    yield 1.0
    less = tolerance
    while less < 1:
        yield 1 - less
        less *= 4
    yield 0.0
