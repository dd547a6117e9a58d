"""Conjugate gradients on the normal equations, as S3's public code has them.

Lu, Kamath, Yu, Indiscriminate Data Poisoning Attacks on Neural Networks, TMLR 2022: the code solves
``(H + damping)^2 s = (H + damping) v``, 16 steps from zeros with damping 0. The square has no
negative eigenvalue, so it never ends early; but its condition is the square of H's, and two
products go into a step. After 16 the eigenvalues that are small beside the largest are hardly
begun: it is a filter, and its residual says how far from a solution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning.curvature.solvers.solution import Operator, Solution, judged

if TYPE_CHECKING:
    from torch import Tensor

# What the public code runs with.
PUBLISHED_STEPS, PUBLISHED_DAMPING = 16, 0.0


def normal_equations(
    product: Operator,
    damping: float,
    wanted: Tensor,
    tolerance: float = 0.0,
    most: int = PUBLISHED_STEPS,
) -> Solution:
    """Solve (H + damping)^2 s = (H + damping) v from zeros.

    Args:
        product: v -> H v.
        damping: Added to every eigenvalue, >= 0; 0 as published.
        wanted: v, (P,).
        tolerance: Relative residual of the normal equations at which it stops; 0 as published.
        most: Steps at most, two products each; 16 as published. One product goes before them, and
            one into the residual.
    """

    def system(vector: Tensor) -> Tensor:
        return product(vector) + damping * vector

    out, rest = wanted.new_zeros(wanted.shape), system(wanted)
    ahead, size = rest.clone(), float(rest @ rest)
    enough, steps, negative = tolerance**2 * size, 0, False
    while steps < most and size > enough:
        once = system(ahead)
        negative |= float(ahead @ once) <= 0
        twice, steps = system(once), steps + 1
        curvature = float(once @ once)  # of the square
        if curvature == 0:
            break
        out += (size / curvature) * ahead
        rest -= (size / curvature) * twice
        before, size = size, float(rest @ rest)
        ahead = rest + (size / before) * ahead
    return judged(system, wanted, out, steps, negative, 2 * steps + 1)
