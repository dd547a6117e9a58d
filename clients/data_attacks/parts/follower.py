"""A model that an attacker trains in the defender's place: once whole, then a few steps at a time.

The poison makes up the share of the loss that it will have in the defender's pool, whatever share
of the attacker's own rows it is: f = (1 - s) * mean over clean rows + s * mean over poison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from learning.curvature.objective import RowObjective
from learning.curvature.vectors import flat, unflat, weights_of
from learning.pool import Block, Floats, Ints, Pool
from learning.seeds import derived_seed
from learning.shares import count_of
from learning.training.device import repeatable
from learning.training.engine.engine import Engine
from learning.training.job import Training
from learning.training.recipe import Recipe
from learning.training.spec import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def trained(
    recipe: Recipe,
    x: Floats,
    y: Ints,
    *,
    epochs: int | None = None,
    purpose: str = "",
) -> nn.Module:
    """Train a surrogate as the defender trains its model; on the CPU the bytes are always the same.

    Args:
        recipe: The defender's, with a seed of the attacker's.
        x: Rows, float32 (n, C, H, W), n >= 1.
        y: Labels, int64 (n,).
        epochs: Passes over the rows; by default the defender's.
        purpose: Separates surrogates that must differ in initial weights and batches.

    Returns:
        In evaluation mode, gradients off, on the device of the recipe.

    Raises:
        ValueError: If the training diverges.
    """
    seed = derived_seed(recipe.seed, purpose) if purpose else recipe.seed
    settings = recipe.training.model_copy(update={"early_stopping": None, "validation_share": 0.0})
    changed = replace(recipe, training=settings, seed=seed)
    pool = Pool((Block("surrogate", 0, x, y),), recipe.classes)
    with repeatable():
        model = Engine(changed).train([Training(pool, epochs=epochs)])[0]
    if model.diverged:
        raise ValueError(
            "expected a surrogate that learns, got one that diverged at the defender's learning "
            f"rate of {recipe.training.optimizer.rate:g}"
        )
    return model.module


@dataclass(eq=False)
class Follower:
    """A model that follows the poison, some minibatch steps at a time.

    Attributes:
        module: Its weights are moved in place.
        recipe: Optimiser, learning rate and batch size; schedules are left out.
        x: Clean rows, float (n, C, H, W), on the module's device.
        y: Their labels, int64 (n,).
        share: s, the share of the loss that the poison has, in (0, 1).
        generator: Of the batches.
    """

    module: nn.Module
    recipe: Recipe
    x: Tensor
    y: Tensor
    share: float
    generator: torch.Generator

    def __post_init__(self) -> None:
        spec = self.recipe.training
        self._stepper = Stepper(list(self.module.parameters()), spec)
        self._poison = max(1, count_of(self.share, spec.batch_size))
        self._clean = min(max(1, spec.batch_size - self._poison), len(self.y))
        self._order = RowOrder(len(self.y), self.generator)
        self._poison_order: RowOrder | None = None

    def steps(self, count: int, x: Tensor, y: Tensor) -> None:
        """Train on the clean rows and the poison of this moment.

        Args:
            count: Steps.
            x: Poison, float (m, C, H, W), m >= 1.
            y: Its labels, int64 (m,).
        """
        if self._poison_order is None:
            self._poison_order = RowOrder(len(y), self.generator)
        with repeatable():
            for _ in range(count):
                clean = self._order.take(self._clean)
                poison = self._poison_order.take(min(self._poison, len(y)))
                self._step(
                    torch.cat([self.x[clean], x[poison]]),
                    torch.cat([self.y[clean], y[poison]]),
                    len(poison),
                )

    def _step(self, x: Tensor, y: Tensor, poison: int) -> None:
        shares = shares_of(self.share, len(y) - poison, poison).to(x)
        weights = weights_of(self.module)
        slope = RowObjective(self.module, x, y, shares).gradient(flat(weights))
        self._stepper.step(list(unflat(slope, weights).values()))

    def objective(self, x: Tensor, y: Tensor, rows: Tensor | None = None) -> RowObjective:
        """Return what it minimises, with the poison as the last rows.

        Args:
            x: Poison, float (m, C, H, W).
            y: Its labels.
            rows: Positions of the clean rows to take in, int64 (k,); all by default.
        """
        clean_x, clean_y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        shares = shares_of(self.share, len(clean_y), len(y)).to(x)
        return RowObjective(self.module, torch.cat([clean_x, x]), torch.cat([clean_y, y]), shares)


def shares_of(share: float, clean: int, poison: int) -> Tensor:
    """Return each row's part of the loss, float64: clean rows first, then the poison.

    Args:
        share: What the poison has of the loss, in (0, 1).
        clean: Clean rows, >= 1.
        poison: Rows of poison, >= 1.
    """
    parts = torch.full((clean + poison,), (1 - share) / clean, dtype=torch.float64)
    parts[clean:] = share / poison
    return parts


class Stepper:
    """The defender's optimiser for one model, at its first learning rate.

    Args:
        weights: Moved in place.
        training: The defender's settings.
    """

    def __init__(self, weights: Sequence[Tensor], training: TrainingSpec) -> None:
        self._stacked = [w.data[None] for w in weights]
        self._optimizer = training.optimizer.stacked(self._stacked)
        self._rate = training.optimizer.rate

    def step(self, grads: Sequence[Tensor]) -> None:
        """Take a step along the gradients, each of its weight's shape."""
        with torch.no_grad():
            self._optimizer.step(self._stacked, [grad[None] for grad in grads], self._rate)


class RowOrder:
    """Positions in random order, again and again."""

    def __init__(self, rows: int, generator: torch.Generator) -> None:
        self._rows, self._generator = rows, generator
        self._left = torch.zeros(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        """Return the next positions, int64 (count,)."""
        while len(self._left) < count:
            fresh = torch.randperm(self._rows, generator=self._generator)
            self._left = torch.cat([self._left, fresh])
        taken, self._left = self._left[:count], self._left[count:]
        return taken
