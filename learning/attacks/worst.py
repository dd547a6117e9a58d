"""The worst that an attack has found for each input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from learning.attacks.ascent import Inputs, under_attack
from learning.attacks.losses import margin

if TYPE_CHECKING:
    from torch import Tensor, nn

# An answer is surely wrong where another class leads by this share of the largest logit: far more
# than what a pass of another batch size may round differently.
SURELY = 1e-4


class Worst:
    """Keeps of each input the iterate with the largest margin: wrong before right, then closer.

    Attributes:
        all: All inputs of the batch.
        at: The worst iterates, (n, C, H, W); the clean input before any was seen.
        margin: Their margins, (n,): the largest other logit minus the true one; infinite where
            the answer is not a number, which is a miss.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        """Take the clean inputs, which do not count as iterates."""
        self.all = under_attack(model, x, y)
        self.at = x.clone()
        self.margin = torch.full_like(self.all.unit[:, 0], -torch.inf)
        self._wrong = torch.zeros_like(self.margin, dtype=torch.bool)

    def see(self, inputs: Inputs, at: Tensor, logits: Tensor) -> Tensor:
        """Take in an iterate of some inputs; return which of them still stand, bool (n,)."""
        margins, wrong = self._judged(inputs, logits)
        worse = margins > self.margin[inputs.rows]
        rows = inputs.rows[worse]
        self.at[rows], self.margin[rows] = at[worse].detach(), margins[worse]
        self._wrong[inputs.rows] |= wrong
        return ~self._wrong[inputs.rows]

    def standing(self) -> Inputs:
        """Return the inputs that are not surely misled yet."""
        return self.all.take(~self._wrong)

    def _judged(self, inputs: Inputs, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins and whether answers are surely wrong, (n,) each."""
        sound = logits.isfinite().all(1)
        margins = torch.where(sound, margin(logits, inputs.y, inputs.unit), torch.inf)
        return margins, margins > SURELY * logits.abs().amax(1).nan_to_num(0.0, posinf=0.0)
