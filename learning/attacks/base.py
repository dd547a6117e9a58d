"""Attacks on inputs at run time (adversarial examples)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from learning.attacks.ascent import Ball
from learning.method import Method

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class InputAttack(Method):
    """Perturbs inputs so that a model errs, within a norm ball and the box [0, 1]."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The attack with norm, radius and steps, such as ``pgd linf 0.1 x20``."""

    @property
    def ball(self) -> Ball | None:
        """The perturbations that the attack may make; None where they are no norm ball."""
        return None

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return adversarial inputs.

        Args:
            model: Gives logits (n, classes); left as it was (mode, gradients).
            x: Inputs, float (n, C, H, W), in [0, 1].
            y: True labels, int64 (n,).
            generator: CPU generator for random starts.
        """
