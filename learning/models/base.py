"""Model architectures, by name."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from learning.method import Method

if TYPE_CHECKING:
    from torch import nn


class Architecture(Method):
    """A classifier of images: inputs float32 (n, C, H, W) in [0, 1], outputs logits (n, classes).

    `build` draws the initial weights from the generator of the caller's `torch.random.fork_rng`
    scope, so it must use torch's ordinary initialisers only.

    Attributes:
        batchable: Whether many such models can be trained as one (no BatchNorm, no
            dropout, no buffers, no tied weights, no frozen parameters).
        linear: Whether the logits are linear in the pixels; some defences are for these alone.
    """

    batchable: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    def files(self) -> tuple[str, ...]:
        """Return the files that the model is read from; a run keeps the SHA-256 of each."""
        return ()

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return an untrained model for inputs of `shape` (C, H, W).

        Any module will do that takes (n, C, H, W) and returns logits (n, classes), and ends in a
        linear layer, whose input is what filters see as features. One without a linear layer has
        a method ``features(x) -> (n, d)``. `learning.models.conformance.check_architecture` says
        whether it can be played.

        Raises:
            ValueError: If the architecture cannot take such inputs.
        """
