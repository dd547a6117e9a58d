"""Backdoor triggers: the patterns that a backdoor listens for."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learning.method import Method
from learning.pool import Floats


@dataclass(frozen=True, eq=False)
class Pattern:
    """A trigger ready to be stamped: ``x' = clip(x * (1 - mask) + value * mask, 0, 1)``.

    S0 A.1.8's m and z. The leading dimension is 1 (one pattern for all rows) or n (one for each).

    Attributes:
        mask: float32 (1 or n, 1 or C, H, W); 0 leaves a pixel alone, 1 replaces it, values between
            blend; a few triggers have other values, which push away from `value` or beyond it.
        value: float32 (1 or n, C, H, W), in [0, 1].
    """

    mask: Floats
    value: Floats

    def stamp(self, x: Floats) -> Floats:
        """Return `x` (n, C, H, W) with the trigger; `x` itself is left alone."""
        out = x * (1 - self.mask) + self.value * self.mask
        return np.clip(out, 0, 1).astype(np.float32, copy=False)


@dataclass(frozen=True)
class TriggerKey:
    """Which generators a trigger draws from.

    Attributes:
        seed: The game's seed.
        agent: The agent that owns the trigger; its own draws are keyed by it.
        group: Its group; draws that the group shares (a base pattern, `rho`) are keyed by it.
        index: The agent's position in its group, from 0.
        purpose: Separates train time (``"train"``) from run time (``"run"``) for triggers that
            are redrawn for every row, or of which an agent trains a part.
    """

    seed: int
    agent: str
    group: str = ""
    index: int = 0
    purpose: str = "train"


class Trigger(Method):
    """A family of patterns; `draw` gives the one of an agent.

    Attributes:
        in_parts: Whether an agent trains a part of the pattern and asks with the whole.
    """

    in_parts: ClassVar[bool] = False

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return why the pattern cannot be drawn on inputs of this shape; see `Method.misfit`."""
        try:
            for purpose in ("train", "run"):
                self.draw(shape, 1, TriggerKey(0, "agent", "group", purpose=purpose))
        except ValueError as error:
            return " ".join(str(error).split())
        return None

    @abstractmethod
    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the agent's pattern.

        Args:
            shape: Input shape (C, H, W).
            rows: Number of inputs it will be stamped on; used by triggers redrawn for each row.
            key: Whose trigger it is. The same key always gives the same pattern.

        Raises:
            ValueError: If the trigger does not fit the shape; names the limit.
        """
