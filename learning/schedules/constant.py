"""The learning rate stays as it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from learning.schedules.base import Schedule


class ConstantRate(Schedule):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"
    constant: ClassVar[bool] = True

    def rate(self, epoch: int, epochs: int) -> float:
        """Return 1."""
        return 1.0
