"""Adversarial training against backdoors: poison-like patches in every batch, true labels.

Geiping et al., What Doesn't Kill You Makes You Robust(er): How to Adversarially Train against Data
Poisoning, 2021 (arXiv 2102.13624), Algorithm 1, in its form for backdoor triggers, as the authors'
code has it. Each batch is cut into "poisons" and "targets". Every class gets a random patch: sides
between 0.1 and 0.4 of the image's, each value 0 or 1, with a density drawn for the patch. A poison
carries the patch of its own class, a target that of another class, each at a random place; all are
trained on with their true labels, so that no patch tells the model anything.

The forms of the paper that craft perturbations against the current model (gradient matching,
feature collision) need gradients through the model within each step, which a batch hook is not
given; they are not offered. S0 A.2.6 has a version of its own, with 20 fixed triggers on part of
the defender's rows: the augmentation `backdoor_adversarial_training`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from learning.shares import count_of, counts_of
from strategies.base import TrainingHook

if TYPE_CHECKING:
    from torch import Tensor


class PoisonPatches(TrainingHook):
    """Puts patches on the images of a batch, as an attacker of all classes at once would."""

    kind: Literal["poison_patches"] = "poison_patches"
    paper: ClassVar[str] = "Geiping et al., What Doesn't Kill You Makes You Robust(er), 2021"

    poisons: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of a batch that carries the patch of its own class (halves up); the "
        "others carry that of another class. The authors' code has several splits, half and half "
        "among them.",
        json_schema_extra={"origin": "code"},
    )
    smallest: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Smallest side of a patch, as a share of the image's, rounded down as in the "
        "authors' code.",
        json_schema_extra={"origin": "code"},
    )
    largest: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Largest side of a patch, as a share of the image's, likewise rounded down.",
        json_schema_extra={"origin": "code"},
    )

    @model_validator(mode="after")
    def _check_sides(self) -> PoisonPatches:
        if self.largest < self.smallest:
            raise ValueError(f"expected largest >= smallest, got {self.largest} < {self.smallest}")
        return self

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Refuse patches that never have a pixel; see `Method.misfit`."""
        least = 1 / min(shape[1:])
        if count_of(self.largest, min(shape[1:]), rounding="floor") >= 1:
            return None
        return (
            f"expected largest of at least {least:.3g}, a pixel of inputs of {shape[1]}x{shape[2]} "
            f"pixels, got {self.largest}: no patch would have any"
        )

    def mix(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the batch to train on; see `BatchHook.mix`."""
        classes = targets.shape[1]
        sides = [self._sides(length, classes, generator) for length in x.shape[2:]]
        density = torch.rand(classes, 1, 1, 1, generator=generator)
        pixels = torch.rand(classes, *x.shape[1:], generator=generator)
        patches = (pixels < density).to(x.device, x.dtype)
        whose = self._whose(targets.argmax(1).cpu(), classes, generator)
        inside, shifts = [], []
        for length, side in zip(x.shape[2:], sides, strict=True):
            first = (torch.rand(len(x), generator=generator) * (length - side[whose] + 1)).long()
            at = torch.arange(length)
            inside.append((at >= first[:, None]) & (at < (first + side[whose])[:, None]))
            shifts.append((at - first[:, None]) % length)  # the patch moves with its place
        rows, columns = (shift.to(x.device) for shift in shifts)
        own = whose.to(x.device)
        placed = patches[own[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        mask = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(x.device)
        return torch.where(mask, placed.permute(0, 3, 1, 2), x), targets

    def _sides(self, length: int, classes: int, generator: torch.Generator) -> Tensor:
        """Return the length of each class's patch along one side, int64 (classes,)."""
        low, high = counts_of([self.smallest, self.largest], length, rounding="floor").tolist()
        return torch.randint(low, high + 1, (classes,), generator=generator)

    def _whose(self, labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
        """Return the class whose patch each row carries, int64 (n,)."""
        if classes < 2:
            return labels
        # A shift along a random circle of the classes gives none its own.
        circle = torch.randperm(classes, generator=generator)
        other = torch.empty_like(circle)
        other[circle] = circle.roll(1)
        order = torch.randperm(len(labels), generator=generator)
        targets = order[count_of(self.poisons, len(labels)) :]
        whose = labels.clone()
        whose[targets] = other[labels[targets]]
        return whose
