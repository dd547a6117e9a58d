"""How total gradient descent ascent is played: an attacker, and followers that it runs ahead of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from clients.data_attacks.parts.follower import Follower
from clients.data_attacks.parts.leaders import Autoencoder, Leader, Pixels, cooled
from learning.curvature.objective import RowObjective
from learning.curvature.row_gradient import loss_gradient
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.solvers.minres import minres
from learning.curvature.solvers.neumann import neumann
from learning.curvature.solvers.normal_equations import normal_equations
from learning.curvature.vectors import load, vector_of

if TYPE_CHECKING:
    from torch import Tensor

    from clients.data_attacks.parts.crafter import CraftingProblem
    from learning.curvature.solvers.solution import Solution

_TOLERANCE = 1e-3  # of the relative residual: far below what the sampled curvature is off by


@dataclass(frozen=True, kw_only=True)
class Tactics:
    """How attacker and followers move; see the fields of `total_gradient`."""

    form: Literal["pixels", "autoencoder"]
    pretrain: bool
    pretrain_steps: int
    rounds: int
    attacker_steps: int
    surrogate_steps: int
    leader: Literal["attacker", "defender"]
    start: Literal["warm", "cold"]
    objective: Literal["judges", "pool"]
    dynamics: Literal["tgda", "fr", "gdn"]
    step: float
    decay: Literal["none", "cosine"]
    solver: Literal["cg", "minres", "normal_equations", "neumann"]
    iterations: int
    damping: float | None
    curvature: Literal["gauss_newton", "hessian"]
    curvature_rows: int
    radius: float | None
    followers: int
    renew: int | None


class Pursuit:
    """One attacker and its followers, round by round.

    Args:
        attack: How they move.
        problem: What is crafted, and what is known.

    Attributes:
        leader: Has the rows.
    """

    def __init__(self, attack: Tactics, problem: CraftingProblem) -> None:
        self._attack, self._problem = attack, problem
        x, self._y, known_x, known_y, judge_x, judge_y = problem.on_device(
            problem.x, problem.y, problem.known_x, problem.known_y, problem.judge_x, problem.judge_y
        )
        self._known, self._judges = (known_x, known_y), (judge_x, judge_y)
        draws = problem.generator("curvature rows")
        self._sample = torch.randperm(len(known_y), generator=draws)[: attack.curvature_rows]
        self.leader = self._leader(x)
        self._chasers = [
            Chaser(self._follower(f"follower/{k}"), attack) for k in range(attack.followers)
        ]

    def _leader(self, x: Tensor) -> Leader:
        attack, problem = self._attack, self._problem
        if attack.form == "pixels":
            return Pixels(x, attack.step, attack.radius)
        draws = problem.generator("leader")
        made = Autoencoder(x, self._y, problem.recipe.classes, attack.step, draws)
        if attack.pretrain:
            made.pretrain(*self._known, attack.pretrain_steps, problem.generator("leader/batches"))
        return made

    def _follower(self, purpose: str) -> Follower:
        problem = self._problem
        return Follower(
            problem.surrogate(purpose),
            problem.recipe,
            *self._known,
            problem.share,
            problem.generator(f"{purpose}/batches"),
        )

    @property
    def _damping(self) -> float:
        if self._attack.damping is not None:
            return self._attack.damping
        training, problem = self._problem.recipe.training, self._problem
        rows = len(problem.y) / problem.share
        steps = training.epochs * max(1.0, rows / training.batch_size)
        return 1 / (training.optimizer.rate * steps)

    def take_turns(self, number: int) -> None:
        """Let attacker and followers move."""
        attack = self._attack
        if attack.renew is not None and number and number % attack.renew == 0:
            turn = number // attack.renew
            place = (turn - 1) % len(self._chasers)
            self._chasers[place] = Chaser(self._follower(f"follower/{place}/{turn}"), attack)
        rate = cooled(number, attack.rounds) if attack.decay == "cosine" else 1.0
        moves = attack.attacker_steps
        if attack.leader == "defender":
            self._follow(self.leader.rows, attack.attacker_steps)
            moves = max(1, attack.surrogate_steps)
        before = self.leader.rows
        for _ in range(moves):
            found = [self._direction(chaser) for chaser in self._chasers]
            self.leader.ascend(torch.stack(found).mean(0), rate)
        if attack.leader == "attacker":
            self._follow(before, attack.surrogate_steps)

    def _follow(self, before: Tensor, steps: int) -> None:
        for chaser in self._chasers:
            chaser.follow(before, self.leader.rows, self._y, steps, self._sample, self._damping)

    def _direction(self, chaser: Chaser) -> Tensor:
        x = self.leader.rows
        if self._attack.leader == "defender":
            return loss_gradient(chaser.follower.module, x, self._y)
        pool = chaser.follower.objective(x, self._y, self._sample)
        weights = vector_of(chaser.follower.module)
        if self._attack.objective == "judges":
            wanted = RowObjective(chaser.follower.module, *self._judges).gradient(weights)
        else:
            wanted = pool.gradient(weights)
        solved = chaser.solved(pool, weights, wanted, self._damping)
        total = -pool.crossed(weights, solved, slice(len(self._sample), None))
        if self._attack.objective == "judges":
            return total
        share = self._problem.share / len(self._y)
        return total + share * loss_gradient(chaser.follower.module, x, self._y)


class Chaser:
    """A follower, where it began, and the last solution on its curvature.

    Args:
        follower: As it was pretrained.
        attack: How it moves.

    Attributes:
        follower: As it is now.
    """

    def __init__(self, follower: Follower, attack: Tactics) -> None:
        self.follower, self._attack = follower, attack
        self._begun = vector_of(follower.module)
        self._last: Tensor | None = None

    def solved(self, pool: RowObjective, weights: Tensor, wanted: Tensor, damping: float) -> Tensor:
        """Return what the curvature of the pool's loss maps to a vector, (P,)."""
        self._last = self._solution(pool, weights, wanted, damping, self._last).vector
        return self._last

    def _solution(
        self,
        pool: RowObjective,
        weights: Tensor,
        wanted: Tensor,
        damping: float,
        start: Tensor | None,
    ) -> Solution:
        attack = self._attack
        product = pool.product(weights, attack.curvature)
        if attack.solver == "cg":
            return conjugate_gradients(
                product, damping, wanted, _TOLERANCE, attack.iterations, start
            )
        if attack.solver == "minres":
            return minres(product, damping, wanted, _TOLERANCE, attack.iterations, start)
        if attack.solver == "neumann":
            rate = self.follower.recipe.training.optimizer.rate
            return neumann(product, damping, wanted, rate, attack.iterations, start)
        return normal_equations(product, damping, wanted, 0.0, attack.iterations)

    def follow(
        self, before: Tensor, x: Tensor, y: Tensor, steps: int, sample: Tensor, damping: float
    ) -> None:
        """Move after the attacker, from rows as they were before its steps."""
        follower, attack = self.follower, self._attack
        if attack.start == "cold":
            load(follower.module, self._begun)
        if attack.dynamics == "gdn":
            self._newton(x, y, sample, damping)
            return
        if attack.dynamics == "fr":
            self._along_the_ridge(before, x, y, sample, damping)
        follower.steps(steps, x, y)

    def _newton(self, x: Tensor, y: Tensor, sample: Tensor, damping: float) -> None:
        pool, weights = self.follower.objective(x, y, sample), vector_of(self.follower.module)
        move = self._solution(pool, weights, pool.gradient(weights), damping, None).vector
        load(self.follower.module, weights - move)

    def _along_the_ridge(
        self, before: Tensor, x: Tensor, y: Tensor, sample: Tensor, damping: float
    ) -> None:
        """Keep the pool's gradient as it was when the rows moved, to first order."""
        weights = vector_of(self.follower.module)
        was = self.follower.objective(before, y, sample).gradient(weights)
        pool = self.follower.objective(x, y, sample)
        change = pool.gradient(weights) - was
        move = self._solution(pool, weights, change, damping, None).vector
        load(self.follower.module, weights - move)
