"""The Neumann series: K steps of gradient descent at rate eta, seen from their end.

``s_K = eta sum_{k < K} (I - eta H)^k v``, by ``s <- s + eta (v - H s)``. It converges where every
eigenvalue of H lies between 0 and 2 / eta, and what it leaves out is what K steps of descent do
not reach: eigenvalues below 1 / (eta K), as if they were damped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning.curvature.solvers.solution import Operator, Solution, begun, judged

if TYPE_CHECKING:
    from torch import Tensor


def neumann(
    product: Operator,
    damping: float,
    wanted: Tensor,
    rate: float,
    terms: int,
    start: Tensor | None = None,
) -> Solution:
    """Return the sum of some terms of the series of (H + damping)^-1 v.

    Args:
        product: v -> H v.
        damping: Added to every eigenvalue, >= 0.
        wanted: v, (P,).
        rate: eta, > 0. A residual above 1 tells that it is too large.
        terms: K, >= 1; K - 1 products without a start.
        start: First s, (P,); None for zeros.

    Raises:
        ValueError: If the start is not of the length of v.
    """

    def system(vector: Tensor) -> Tensor:
        return product(vector) + damping * vector

    out, rest, products = begun(system, wanted, start)
    negative = False
    for term in range(terms):
        if term:
            moved = system(out)
            products += 1
            negative |= float(out @ moved) <= 0 and bool(out.any())
            rest = wanted - moved
        out = out + rate * rest
    return judged(system, wanted, out, terms, negative, products)
