"""Multilayer perceptron; three linear layers by default (S3's followers have this form)."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from learning.models.base import Architecture

if TYPE_CHECKING:
    from learning.models.parts.modules import Classifier

Width = Annotated[int, Field(ge=1, le=65_536)]


class MLP(Architecture):
    """Linear layers with ReLU between them, on the flattened pixels."""

    kind: Literal["mlp"] = "mlp"
    batchable: ClassVar[bool] = True
    hidden: tuple[Width, ...] = Field(
        (128, 64),
        min_length=1,
        max_length=16,
        description="Widths of the hidden layers; two of them make a three-layer perceptron.",
        json_schema_extra={"origin": "ours"},
    )

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """Return the untrained model."""
        from learning.models.parts.modules import Classifier

        body = torch.nn.Sequential(torch.nn.Flatten())
        for before, after in pairwise((prod(shape), *self.hidden)):
            body.append(torch.nn.Linear(before, after))
            body.append(torch.nn.ReLU())
        return Classifier(body, torch.nn.Linear(self.hidden[-1], classes))
