"""What an update attack is given and what it hands over.

An attack has two turns in a round. Before local training it may change how the agent trains
(`UpdateAttack.plan`); afterwards it makes the update that is handed over (`UpdateAttack.craft`),
and perhaps the buffers that go with it (`UpdateAttack.buffers`).

What it may know is granted by the scenario, and handed to it by the table: an attack that needs
others' updates is asked a second time, after they have handed theirs over (the rushing adversary
of the literature), and is then sent those that its `knowledge` names and no others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from clients.update_attacks.local_rows import LocalKnowledge, LocalRows
from learning.method import Method, kind_of
from learning.seeds import torch_generator
from learning.training.job import UpdateConstraint
from learning.weights import State, WeightLayout

if TYPE_CHECKING:
    from torch import Tensor

Knowledge = Literal["own", "group", "honest"]


class NotGranted(PermissionError):
    """An attack asked for what its scenario does not grant it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Before:
    """What an attacker knows before it trains.

    Attributes:
        agent: Its name.
        seed: The game's seed; its draws are keyed by it, a purpose, the round and its name.
        round: From 1.
        start: Weights of the global model, flat (d,), float, on the CPU; see
            `learning.weights.WeightLayout` for their order.
        previous: The same of the round before, which every agent could have kept; None in round
            1, and unless the attack `listens`.
        local: Its own rows and the broadcast model; None unless the attack `needs_rows`.
    """

    agent: str
    seed: int
    round: int
    start: Tensor
    previous: Tensor | None = None
    local: LocalKnowledge | None = None

    def known_rows(self) -> LocalKnowledge:
        """Return its own rows and the broadcast model.

        Raises:
            NotGranted: If the attack does not declare `needs_rows`.
        """
        if self.local is None:
            raise NotGranted(f"the attack of {self.agent!r} is not told its rows: set needs_rows")
        return self.local

    def generator(self, purpose: str) -> torch.Generator:
        """Return the agent's own CPU generator for one purpose in this round."""
        return torch_generator(
            self.seed, f"update attack/{purpose}", round=self.round, agent=self.agent
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class View(Before):
    """What an attacker knows when it makes its update.

    Attributes:
        own: Its own update as trained (see `UpdateAttack.plan`), ``w - start``, (d,).
        seen: The updates granted, (k, d), k >= 1: its own alone (``own``); those that the members
            of its group have trained in this round, its own among them (``group``); or those that
            the benign agents have handed over (``honest``), its own where there are none.
        participants: Number of agents n asked in this round; everybody may know it.
        accomplices: Number of its group's members among them, itself included.
        member: Its own position among those, from 0.
        boost: 1 / its registered share of the rows of all participants, >= 1: the factor by which
            its update must grow to replace a weighted mean. FedAvg's shares are public here.
        deployed: The defender's rule, granted by `knows_rule`: from updates (n, d) to their
            aggregate (d,). It is the rule that is played, with its memory and the registered shares
            of the updates seen and then of the accomplices, in that order; the defender's draws and
            its own update are granted to nobody, and the run says where a rule needs them.
    """

    own: Tensor
    seen: Tensor
    participants: int = 1
    accomplices: int = 1
    member: int = 0
    boost: float = 1.0
    deployed: Callable[[Tensor], Tensor] | None = None

    def rule(self, updates: Tensor) -> Tensor:
        """Return what the deployed rule makes of updates (n, d).

        Raises:
            NotGranted: If the attack does not declare `knows_rule`.
        """
        if self.deployed is None:
            raise NotGranted(f"the attack of {self.agent!r} does not know the defender's rule")
        return self.deployed(updates)


@dataclass(frozen=True, eq=False)
class LocalPlan:
    """How an attacker trains, where that differs from what its scenario asks of all agents.

    Attributes:
        epochs: Epochs; None for the scenario's epochs or steps.
        rate: Factor of the learning rate.
        steering: Changes of every step; None for the scenario's own.
        honest: Whether it trains on its clean rows, whatever its behaviour did to them.
        rows: Rows to train on in this round, in the place of any others; None for its own.
    """

    epochs: int | None = None
    rate: float = 1.0
    steering: UpdateConstraint | None = None
    honest: bool = False
    rows: LocalRows | None = None


class UpdateAttack(Method):
    """What an attacker does with its model update.

    Attacks without a field `knowledge` know their own update alone.

    Attributes:
        listens: Whether the attack is sent the global model of the round before, too.
        knows_rule: Whether it is granted the defender's rule (`View.rule`).
        needs_buffers: Whether it does nothing to a model without buffers.
        needs_rows: Whether it is told its own rows before training (`Before.local`).
        aim: What the agent is after, whatever its behaviour is: ``damage`` for a model that is
            worse for everybody; None: what its behaviour is after.
    """

    listens: ClassVar[bool] = False
    knows_rule: ClassVar[bool] = False
    needs_buffers: ClassVar[bool] = False
    needs_rows: ClassVar[bool] = False
    aim: ClassVar[Literal["damage"] | None] = None

    @property
    def grant(self) -> Knowledge:
        """What the scenario grants the attack to see."""
        granted: Knowledge = getattr(self, "knowledge", "own")
        return granted

    def plan(self, before: Before) -> LocalPlan:
        """Return how the agent trains in this round; by default as everybody does."""
        return LocalPlan()

    def handed_over(self, view: View) -> Tensor:
        """Return the update that the agent hands over, (d,), in the dtype of its own.

        Raises:
            ValueError: If the attack's update is not one: another shape, or not finite.
        """
        update = self.craft(view).to(view.own.dtype)
        if update.shape != view.own.shape or not bool(torch.isfinite(update).all()):
            raise ValueError(
                f"expected a finite update of {tuple(view.own.shape)} from {kind_of(type(self))}, "
                f"got {tuple(update.shape)}, finite: {bool(torch.isfinite(update).all())}"
            )
        return update

    def buffers(self, before: Before, trained: State, layout: WeightLayout) -> State:
        """Return the buffers to hand over beside the update; by default those that were trained.

        Args:
            before: What the attacker knows.
            trained: The buffers after its training, by name, on the CPU; left as they are.
            layout: Which of them are variances and counters.

        Returns:
            The same names, shapes and dtypes, finite.
        """
        return trained

    def buffers_handed_over(self, before: Before, trained: State, layout: WeightLayout) -> State:
        """Return the buffers that the agent hands over.

        Raises:
            ValueError: If the attack's buffers are not those of a model: other names, shapes or
                dtypes, or not finite.
        """
        made = self.buffers(before, trained, layout)
        alike = made.keys() == trained.keys() and all(
            made[name].shape == value.shape and made[name].dtype == value.dtype
            for name, value in trained.items()
        )
        if not alike or not all(bool(torch.isfinite(value).all()) for value in made.values()):
            raise ValueError(
                f"expected finite buffers of the model from {kind_of(type(self))}: the names, "
                "shapes and dtypes that it was given"
            )
        return made

    @abstractmethod
    def craft(self, view: View) -> Tensor:
        """Return the update to hand over, float (d,); `view` is left as it is."""
