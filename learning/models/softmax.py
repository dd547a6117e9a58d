"""Softmax regression: one linear layer on the pixels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from learning.models.base import Architecture

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier


class Softmax(Architecture):
    """Multinomial logistic regression, the convex case."""

    kind: Literal["softmax"] = "softmax"
    batchable: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model; `prod(shape) * classes + classes` parameters."""
        from learning.models.parts.modules import Classifier

        return Classifier(
            torch.nn.Sequential(torch.nn.Flatten()), torch.nn.Linear(prod(shape), classes)
        )
