"""What an attacker may know of its own rows and of the broadcast model, and rows to train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from learning.pool import Floats, Ints

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class LocalRows:
    """Rows to train on.

    Attributes:
        x: Inputs, float32 (n, C, H, W), n >= 1, in [0, 1].
        y: Labels, int64 (n,), in 0..classes-1.
    """

    x: Floats
    y: Ints

    def checked(self, shape: tuple[int, ...], classes: int, maker: str) -> LocalRows:
        """Return these rows, if a model can be trained on them.

        Args:
            shape: Input shape (C, H, W).
            classes: Number of classes.
            maker: Who made them, for the message.

        Raises:
            ValueError: If it cannot; one line.
        """
        fault = self._fault(shape, classes)
        if fault:
            raise ValueError(f"expected rows to train on of {maker} with {fault}")
        return self

    def _fault(self, shape: tuple[int, ...], classes: int) -> str:
        """Return what was expected and what is there; "" if all is well."""
        if {type(self.x), type(self.y)} != {np.ndarray}:  # a plug-in's may be anything
            return f"numpy arrays, got {type(self.x).__name__} and {type(self.y).__name__}"
        if self.x.dtype != np.float32 or self.y.dtype != np.int64:
            return f"inputs float32 and labels int64, got {self.x.dtype} and {self.y.dtype}"
        rows = len(self.y) if self.y.ndim == 1 else 0
        if not rows or self.x.shape != (rows, *shape):
            wanted = f"inputs (n, {', '.join(map(str, shape))}) and labels (n,), n >= 1"
            return f"{wanted}, got {self.x.shape} and {self.y.shape}"
        if not bool(((self.x >= 0) & (self.x <= 1)).all()):
            return "inputs that are numbers in [0, 1], got others"
        if self.y.min() < 0 or self.y.max() >= classes:
            return f"labels in 0..{classes - 1}, got {self.y.min()} to {self.y.max()}"
        return ""


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalKnowledge:
    """What an attack is told that `needs_rows`: of its own agent, and what all agents know.

    Attributes:
        clean: Its own rows as they were dealt; left as they are.
        contributed: Those rows as its behaviour has left them; left as they are.
        classes: Number of classes.
        share: Its share of the registered rows of the round's participants, in (0, 1].
        rate: Learning rate that all agents train with.
        steps: Steps that its training takes in a round, >= 1, unless a plan says otherwise.
        model: Makes a copy of the broadcast model, its buffers included: in evaluation mode, on the
            device where agents train.
    """

    clean: LocalRows
    contributed: LocalRows
    classes: int
    share: float
    rate: float
    steps: int
    model: Callable[[], nn.Module]
