"""Rows that are moved up a loss some steps of training ahead, of one model or of many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from clients.data_attacks.parts.follower import Follower
from clients.data_attacks.parts.leaders import Pixels, cooled
from clients.data_attacks.parts.unrolled import descended, unrolled_gradient
from learning.curvature.objective import RowObjective
from learning.curvature.vectors import vector_of
from learning.seeds import derived_seed
from learning.training.device import pick_device
from learning.training.stacked.modules import fresh_module, has_batchnorm

if TYPE_CHECKING:
    from torch import Tensor

    from clients.data_attacks.parts.crafter import CraftingProblem


class Unrolling:
    """One attacker, and the models ahead of which it looks.

    Args:
        problem: The rows, and what is known.
        models: How many.
        rounds: Steps of the rows.
        unroll: Steps of training that are differentiated.
        step: Of a pixel by Adam.
        rows: Clean rows of these steps, at most.
        radius: Largest change of a pixel; None for none.
        staggered: Whether models are in training, at ages spread over its epochs, and go on by an
            epoch in each round; else they are pretrained, and go on by the steps looked ahead.
    """

    def __init__(
        self,
        problem: CraftingProblem,
        *,
        models: int,
        rounds: int,
        unroll: int,
        step: float,
        rows: int,
        radius: float | None,
        staggered: bool = False,
    ) -> None:
        x, self._y, *known, judge_x, judge_y = problem.on_device(
            problem.x, problem.y, problem.known_x, problem.known_y, problem.judge_x, problem.judge_y
        )
        self._problem, self._known, self._judges = problem, known, (judge_x, judge_y)
        self._rounds, self._unroll, self._staggered = rounds, unroll, staggered
        self._pixels = Pixels(x, step, radius)
        draws = problem.generator("unrolled rows")
        self._sample = torch.randperm(len(known[1]), generator=draws)[:rows]
        self._ages = [k * problem.epochs // models if staggered else 0 for k in range(models)]
        self._models = [self._begun(k) for k in range(models)]
        for model, age in zip(self._models, self._ages, strict=True):
            model.steps(age * self._epoch, self._pixels.rows, self._y)

    def crafted(self) -> Tensor:
        """Return the rows after all rounds."""
        for number in range(self._rounds):
            found = torch.stack([self._ahead(model) for model in self._models]).mean(0)
            self._pixels.ascend(found, cooled(number, self._rounds))
            self._go_on(number)
        return self._pixels.rows

    @property
    def _epoch(self) -> int:
        """Steps of an epoch over the clean rows."""
        return max(1, len(self._known[1]) // self._problem.recipe.training.batch_size)

    def _begun(self, place: int, turn: int = 0) -> Follower:
        problem, purpose = self._problem, f"model/{place}/{turn}"
        if not self._staggered:
            module = problem.surrogate(purpose)
        else:
            device, seed = pick_device(problem.recipe.compute.device), problem.recipe.seed
            recipe = replace(problem.recipe, seed=derived_seed(seed, purpose))
            module = fresh_module(recipe, device, torch.float32).eval().requires_grad_(False)
            if has_batchnorm(module):  # whose statistics would stay as they begin, at 0 and 1
                raise ValueError(
                    "expected a surrogate without BatchNorm for models in training, got one with "
                    "it: name another in surrogate"
                )
        draws = problem.generator(f"{purpose}/batches")
        known_x, known_y = self._known
        return Follower(module, problem.recipe, known_x, known_y, problem.share, draws)

    def _ahead(self, model: Follower) -> Tensor:
        """Return the gradient by the rows of the judges' loss some steps ahead of a model."""
        objective = model.objective(self._pixels.rows, self._y, self._sample)
        rate = self._problem.recipe.training.optimizer.rate
        weights = descended(objective, vector_of(model.module), rate, self._unroll)
        judges = RowObjective(model.module, *self._judges)
        rows = slice(len(self._sample), None)
        return unrolled_gradient(objective, weights, rate, judges.gradient, rows)

    def _go_on(self, number: int) -> None:
        for place, model in enumerate(self._models):
            if self._staggered and self._ages[place] >= self._problem.epochs:
                self._models[place], self._ages[place] = self._begun(place, number + 1), 0
                continue
            steps = self._epoch if self._staggered else self._unroll
            model.steps(steps, self._pixels.rows, self._y)
            self._ages[place] += 1
