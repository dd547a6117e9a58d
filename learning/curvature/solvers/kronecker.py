"""A preconditioner of softmax regression: (C kron S + damping)^-1 instead of (H + damping)^-1.

H is the mean of ``(diag p - p p^T) kron a a^T``; taken apart into the mean C of the first and the
mean S of the second, it is inverted through their eigenvectors. S belongs to the rows and is
decomposed once for a data set; C, classes x classes, belongs to the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from learning.curvature.softmax import by_class, in_order
from learning.curvature.solvers.solution import Operator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Kronecker:
    """The part of the preconditioner that belongs to the rows.

    Attributes:
        sizes: Eigenvalues of S, (D,).
        axes: Its eigenvectors, as columns, (D, D).
        bias: Whether the last column of the rows is the bias's 1.
    """

    sizes: Tensor
    axes: Tensor
    bias: bool

    @classmethod
    def of(cls, rows: Tensor, bias: bool = True) -> Kronecker:
        """Return that of rows a, (n, D), those of a layer with a bias ending in 1.

        It takes the time of one eigendecomposition of D x D numbers.
        """
        sizes, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
        return cls(sizes.clamp(min=0), axes, bias)

    def preconditioner(self, chances: Tensor, damping: float) -> Operator:
        """Return r -> (C kron S + damping)^-1 r, of vectors in the order of the parameters.

        Args:
            chances: Softmax p of the rows at the weights, (n, classes).
            damping: Added to every eigenvalue, > 0: C always has the eigenvalue 0.

        Raises:
            ValueError: If the damping is not positive.
        """
        if not damping > 0:
            raise ValueError(f"Kronecker preconditioner: expected damping > 0, got {damping}")
        mean = torch.diag(chances.mean(0)) - chances.T @ chances / len(chances)
        heights, across = torch.linalg.eigh(mean)
        divided = heights.clamp(min=0)[:, None] * self.sizes + damping

        def near(vector: Tensor) -> Tensor:
            turned = across.T @ by_class(vector, len(mean), self.bias) @ self.axes
            return in_order(across @ (turned / divided) @ self.axes.T, self.bias)

        return near
