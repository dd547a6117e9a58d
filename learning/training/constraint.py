"""Steered steps of K models at once: pulled to their start, kept in a ball, frozen in parts.

FedProx (Li et al., MLSys 2020), constrain-and-scale (Bagdasaryan et al., AISTATS 2020), projected
gradient descent (Wang et al., NeurIPS 2020) and Neurotoxin (Zhang et al., ICML 2022) are such
trainings; what each takes is for its own file to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from learning.training.job import UpdateConstraint

if TYPE_CHECKING:
    from torch import Tensor

# Which of a step's changes are at work; models of one stack have them in common, so that none of
# them is computed with an operation that it would not see alone.
Changes = tuple[bool, ...]


def changes(steering: UpdateConstraint | None) -> Changes:
    """Return which changes a steering makes; none for a steering that leaves steps as they are."""
    if steering is None:
        return ()
    at_work = (
        steering.gain != 1,
        steering.pull != 0,
        steering.free is not None,
        steering.radius is not None and steering.project == "step",
        steering.radius is not None and steering.project == "epoch",
    )
    return at_work if any(at_work) else ()


def check_steering(steering: UpdateConstraint, width: int) -> None:
    """Refuse a steering that cannot be followed.

    Args:
        steering: What was asked for.
        width: Number of weights of the model, d.

    Raises:
        ValueError: If a number is out of its range, or `free` is not bool (d,).
    """
    for name, value, least in (
        ("gain", steering.gain, -float("inf")),
        ("pull", steering.pull, 0.0),
        ("radius", steering.radius or 0.0, 0.0),
    ):
        if not least <= value < float("inf") or value == -float("inf"):
            raise ValueError(
                f"expected a finite {name} of a steering, pull and radius >= 0, got {value}"
            )
    free = steering.free
    if free is not None and (free.dtype != torch.bool or free.shape != (width,)):
        raise ValueError(
            f"expected free coordinates of a steering as bool ({width},), got {free.dtype} "
            f"{tuple(free.shape)}"
        )


class StackedSteering:
    """Steers the steps of K models, each by its own steering.

    Args:
        steerings: One for each model, alike in their `changes`.
        weights: The weights to start from, each (K, ...), in the order of
            `learning.weights.WeightLayout.flat`.
    """

    def __init__(self, steerings: Sequence[UpdateConstraint], weights: Sequence[Tensor]) -> None:
        gain, pull, free, self._by_step, self._by_epoch = changes(steerings[0])
        like = weights[0]
        self._start = [w.clone() for w in weights]
        self._gain = like.new_tensor([s.gain for s in steerings]) if gain else None
        self._pull = like.new_tensor([s.pull for s in steerings]) if pull else None
        self._free = _masks(steerings, weights) if free else []
        # Norms and what is made of them need float64, which one kind of device lacks.
        self._exact = torch.float32 if like.device.type == "mps" else torch.float64
        self._radius = torch.tensor(
            [s.radius or 0.0 for s in steerings], dtype=self._exact, device=like.device
        )

    @torch.no_grad()
    def bent(self, weights: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients that the optimiser is to see.

        Args:
            weights: Each (m, ...), of the first m models.
            grads: Of their losses, of the same shapes.
        """
        bent = list(grads)
        if self._gain is not None:
            bent = [g * _each(self._gain, g) for g in bent]
        if self._pull is not None:
            bent = [
                g + _each(self._pull, w) * (w - start[: len(w)])
                for g, w, start in zip(bent, weights, self._start, strict=True)
            ]
        return bent

    @torch.no_grad()
    def after_step(self, weights: Sequence[Tensor]) -> None:
        """Put frozen coordinates of the first m models back, and the models into their balls."""
        for w, free, start in zip(weights, self._free, self._start, strict=False):
            w.copy_(torch.where(free[: len(w)], w, start[: len(w)]))
        if self._by_step:
            self._draw_back(weights)

    @torch.no_grad()
    def after_epoch(self, weights: Sequence[Tensor]) -> None:
        """Put the first m models into their balls, where that is due after epochs only."""
        if self._by_epoch:
            self._draw_back(weights)

    def take(self, models: Tensor) -> None:
        """Go on with these models only, int64 (k,)."""
        self._start = [start.index_select(0, models) for start in self._start]
        self._free = [free.index_select(0, models) for free in self._free]
        self._gain = None if self._gain is None else self._gain[models]
        self._pull = None if self._pull is None else self._pull[models]
        self._radius = self._radius[models]

    def _draw_back(self, weights: Sequence[Tensor]) -> None:
        """Shorten the way from the start where it is longer than the radius."""
        starts = [start[: len(w)] for w, start in zip(weights, self._start, strict=True)]
        squares = torch.zeros_like(self._radius[: len(weights[0])])
        for w, start in zip(weights, starts, strict=True):
            squares = squares + self._way(w, start).flatten(1).square().sum(1)
        norms = squares.sqrt()
        outside, factor = norms > self._radius[: len(norms)], self._radius[: len(norms)] / norms
        for w, start in zip(weights, starts, strict=True):
            way = self._way(w, start) * _each(factor, w)
            drawn = (start + way).to(w.dtype)
            # Rounding must not lead out of the ball again.
            far = self._way(drawn, start).abs() > way.abs()
            drawn = torch.where(far, torch.nextafter(drawn, start), drawn)
            w.copy_(torch.where(_each(outside, w), drawn, w))

    def _way(self, weights: Tensor, start: Tensor) -> Tensor:
        return weights.to(self._exact) - start.to(self._exact)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Return the first models' values (m,), shaped to multiply tensors (m, ...)."""
    return values[: len(like)].view(-1, *(1,) * (like.ndim - 1))


def _masks(steerings: Sequence[UpdateConstraint], weights: Sequence[Tensor]) -> list[Tensor]:
    """Return which coordinates may move, bool, in the shapes and the memory order of weights."""
    sizes = [w[0].numel() for w in weights]
    masks = [torch.empty_like(w, dtype=torch.bool) for w in weights]
    for k, steering in enumerate(steerings):
        assert steering.free is not None  # noqa: S101 - their changes are alike
        for mask, part in zip(masks, torch.split(steering.free, sizes), strict=True):
            mask[k] = part.view(mask[k].shape).to(mask.device)
    return masks
