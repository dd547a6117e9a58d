"""What behaviours have in common that craft rows against a model, so that it learns worse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field

from clients.data_attacks.base import (
    AgentContext,
    Aim,
    Behaviour,
    Contribution,
    Grant,
    Knowledge,
    Mate,
    Share,
)
from clients.data_attacks.parts.labels import by_rule
from clients.data_attacks.parts.poisoning import choose_rows, contribute
from learning.families.table import FAMILIES
from learning.method import kind_of, one_of
from learning.models.base import Architecture
from learning.pool import Floats, Ints
from learning.seeds import torch_generator
from learning.shares import count_of
from learning.training.device import pick_device, repeatable
from learning.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    AnyModel = Architecture
else:
    AnyModel = one_of(Architecture, FAMILIES["model"])


@dataclass(frozen=True, eq=False)
class CraftingProblem:
    """What an attack has to solve: rows to move, and what it knows of the game.

    Attributes:
        x: The rows as they are, float32 (m, C, H, W), m >= 1; where the attack starts.
        y: The labels that they go by, int64 (m,).
        known_x: Clean rows that a surrogate is trained on, float32 (n, C, H, W), n >= 1.
        known_y: Their labels.
        judge_x: Clean rows on which the model is to do badly, float32 (j, C, H, W), j >= 1.
        judge_y: Their labels.
        share: The share of all rows of the defender's pool that the m rows are, in (0, 1).
        recipe: How surrogates are trained: the attacker's own model in the place of the defender's
            where it has one, its own seed.
        epochs: Epochs of a surrogate.
    """

    x: Floats
    y: Ints
    known_x: Floats
    known_y: Ints
    judge_x: Floats
    judge_y: Ints
    share: float
    recipe: Recipe
    epochs: int

    def generator(self, purpose: str) -> torch.Generator:
        """Return the CPU generator of one purpose."""
        return torch_generator(self.recipe.seed, purpose)

    def on_device(self, *arrays: Floats | Ints) -> list[Tensor]:
        """Return arrays as tensors where surrogates are trained."""
        device = pick_device(self.recipe.compute.device)
        return [torch.tensor(array, device=device) for array in arrays]

    def surrogate(self, purpose: str = "") -> nn.Module:
        """Return a model trained on the known clean rows alone; see `follower.trained`."""
        from clients.data_attacks.parts.follower import trained  # imports torch

        return trained(self.recipe, self.known_x, self.known_y, epochs=self.epochs, purpose=purpose)


class Crafter(Behaviour):
    """Moves the inputs of its rows, so that a model trained on them does worse for everybody.

    All rows stay in the data's range; labels follow a rule. The attacker splits the clean rows that
    it knows into those that its surrogate is trained on and judges (S3 5.1: 70 and 30 %).
    """

    poison_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of its rows that is crafted, rounded as poison_count says.",
        json_schema_extra={"origin": "ours"},
    )
    knowledge: Literal["own", "pool"] = Field(
        "own",
        description="Clean rows that it knows: its own, or those of all agents and the defender "
        "(S3's training-only attack). Nobody is granted the pool on real machines.",
        json_schema_extra={"origin": "ours"},
    )
    coordination: Literal["none", "group"] = Field(
        "none",
        description="`none`: it crafts as if all others were honest; `group`: the agents of its "
        "group craft all their rows together.",
        json_schema_extra={"origin": "ours"},
    )
    labels: Literal["keep", "mirror", "mirror_mod", "next", "worst"] = Field(
        "keep",
        description="Labels of crafted rows: as they are, by a rule as in label_flip, or what a "
        "clean surrogate holds for least likely.",
        json_schema_extra={"origin": "paper"},
    )
    judges: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of the clean rows it knows on which it measures its damage.",
        json_schema_extra={"origin": "paper"},
    )
    judges_train: bool = Field(
        False,
        description="Whether its surrogate is trained on these rows as well.",
        json_schema_extra={"origin": "paper"},
    )
    surrogate: AnyModel | None = Field(
        None,
        description="The model it crafts against; by default the defender's.",
        json_schema_extra={"origin": "paper"},
    )
    surrogate_epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Epochs of its surrogate; by default the defender's.",
        json_schema_extra={"origin": "paper"},
    )

    @property
    def aim(self) -> Aim:
        """Damage: it has no input at run time."""
        return "damage"

    @property
    def grant(self) -> Grant:
        """The pool, or its group, as its fields say."""
        return Grant(pool=self.knowledge == "pool", group=self.coordination == "group")

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Craft rows; see `Behaviour.play`.

        Raises:
            ValueError: If it knows too few rows, or its surrogate does not learn.
        """
        if seat.known is None:
            raise ValueError(f"{kind_of(type(self))} needs to be told how the defender trains")
        mine = Mate(replace(seat, known=None), share.x_train, share.y_train)
        rows = self._chosen(mine)
        if not len(rows):
            return contribute(share, rows, share.x_train[rows], share.y_train[rows])
        x, y = self._crafted(seat.known, mine)
        return contribute(share, rows, x, y)

    @abstractmethod
    def craft(self, problem: CraftingProblem) -> Tensor:
        """Return crafted inputs, of the shape of the problem's x.

        What leaves [0, 1] is clipped to it. It runs on one CPU thread; draws are to come from the
        problem's generators alone, so that it gives the same bytes whenever it is asked.

        Raises:
            ValueError: If nothing can be crafted; one line.
        """

    def _chosen(self, mate: Mate) -> Ints:
        return choose_rows(self.poison_rate, np.ones(len(mate.y), np.bool_), mate.seat)

    def _crafted(self, known: Knowledge, mine: Mate) -> tuple[Floats, Ints]:
        """Return an agent's crafted rows and their labels; of a group all are crafted at once."""
        mates = known.mates or (mine,)
        if mine.seat.name not in known.crafted:
            problem = self._problem(known, mates)
            with repeatable():
                moved = self.craft(problem).detach().cpu().numpy().astype(np.float32)
            x = self._sound(moved, problem.x)
            ends = np.cumsum([len(self._chosen(mate)) for mate in mates])[:-1]
            parts = zip(mates, np.split(x, ends), np.split(problem.y, ends), strict=True)
            known.crafted.update({mate.seat.name: (own_x, own_y) for mate, own_x, own_y in parts})
        return known.crafted[mine.seat.name]

    def _sound(self, moved: Floats, start: Floats) -> Floats:
        if moved.shape != start.shape or not np.isfinite(moved).all():
            raise ValueError(
                f"{kind_of(type(self))}: expected crafted rows that are numbers, of shape "
                f"{start.shape}; its steps may be too large"
            )
        return np.asarray(np.clip(moved, 0, 1), dtype=np.float32)

    def _problem(self, known: Knowledge, mates: Sequence[Mate]) -> CraftingProblem:
        rows = [self._chosen(mate) for mate in mates]
        x = np.concatenate([mate.x[own] for mate, own in zip(mates, rows, strict=True)])
        y = np.concatenate([mate.y[own] for mate, own in zip(mates, rows, strict=True)])
        clean_x = np.concatenate([known.x, *(mate.x for mate in mates)])
        clean_y = np.concatenate([known.y, *(mate.y for mate in mates)])
        order = mates[0].seat.generator("judges").permutation(len(clean_y))
        judges = min(max(count_of(self.judges, len(order)), 1), len(order) - 1)
        if judges < 1:
            raise ValueError(
                f"{kind_of(type(self))}: expected at least two rows that it knows, got one"
            )
        train = order if self.judges_train else order[judges:]
        recipe = known.recipe
        problem = CraftingProblem(
            x=x,
            y=y,
            known_x=clean_x[train],
            known_y=clean_y[train],
            judge_x=clean_x[order[:judges]],
            judge_y=clean_y[order[:judges]],
            share=min(len(y) / max(known.pool_rows, len(y) + 1), 0.5),
            recipe=replace(recipe, architecture=self.surrogate or recipe.architecture),
            epochs=self.surrogate_epochs or recipe.training.epochs,
        )
        return replace(problem, y=self._labels(problem))

    def _labels(self, problem: CraftingProblem) -> Ints:
        if self.labels != "worst":
            return by_rule(self.labels, problem.y, problem.recipe.classes)
        return least_likely(problem.surrogate(), problem)


def least_likely(model: nn.Module, problem: CraftingProblem) -> Ints:
    """Return the label that a model holds for least likely for each of the rows, int64 (m,)."""
    (x,) = problem.on_device(problem.x)
    with torch.no_grad():
        found = [model(some).argmin(1) for some in torch.split(x, 1024)]
    return np.asarray(torch.cat(found).cpu().numpy(), dtype=np.int64)
