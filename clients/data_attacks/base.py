"""What an agent does with its private data."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from learning.method import Method
from learning.pool import Bools, Floats, Ints
from learning.seeds import numpy_generator
from learning.triggers.base import TriggerKey

if TYPE_CHECKING:
    from learning.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Share:
    """An agent's private data, split into what it contributes and what it keeps for run time.

    x float32 (n, C, H, W) in [0, 1], y int64 (n,), true labels.
    """

    x_train: Floats
    y_train: Ints
    x_run: Floats
    y_run: Ints


@dataclass(frozen=True, eq=False)
class Mate:
    """An agent of the same group, as those that craft together know each other.

    Attributes:
        seat: Its place; its own knowledge is left out.
        x: Its rows, float32 (n, C, H, W), in [0, 1].
        y: Their true labels, int64 (n,).
    """

    seat: AgentContext
    x: Floats
    y: Ints


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What a behaviour that crafts against a model is granted beside its own share.

    Never in it: the test set, rows that others keep for run time, the defender's draws.

    Attributes:
        recipe: How the defender trains: model, input shape, classes and settings. Its seed is the
            agent's own, so that a surrogate has neither the defender's initial weights nor its
            batches.
        pool_rows: Rows that all parties have registered, the defender's included.
        x: Clean rows of other agents and of the defender, float32 (k, C, H, W); none unless the
            scenario grants the pool. Of agents of the group that craft together they are in
            `mates`.
        y: Their labels, int64 (k,).
        mates: All agents of the group in scenario order, this one included, where they craft
            together; else empty.
        crafted: What has been crafted before, by name: inputs and labels. Of an agent's own, and
            of its group's where they craft together.
    """

    recipe: Recipe
    pool_rows: int
    x: Floats
    y: Ints
    mates: tuple[Mate, ...] = ()
    crafted: dict[str, tuple[Floats, Ints]] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentContext:
    """An agent's place at the table: all that it may know of the game.

    Attributes:
        name: Its name.
        group: The scenario entry it comes from.
        index: Its position in the group, from 0.
        count: Size of the group.
        seed: The game's seed; its draws are keyed by it and the agent's name. A behaviour could
            replay the draws of others with it: in a simulation behaviours are trusted to play
            their own part, and nothing but the defences is kept from looking.
        classes: Number of classes.
        reference_rows: Size of the share that poison rates refer to where the scenario keeps
            the number of poisoned rows constant (S0 A.2.1), else None: the agent's own share.
        rounding: How a fractional number of poisoned rows is rounded.
        known: What a behaviour that crafts against a model is granted; None for all others.
    """

    name: str
    group: str
    index: int
    count: int
    seed: int
    classes: int
    reference_rows: float | None = None
    rounding: str = "nearest"
    known: Knowledge | None = None

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the agent's own generator for one purpose."""
        return numpy_generator(self.seed, purpose, agent=self.name)

    def trigger_key(self, purpose: str) -> TriggerKey:
        """Return the key of the agent's trigger."""
        return TriggerKey(self.seed, self.name, self.group, self.index, purpose)


@dataclass(frozen=True, eq=False)
class Contribution:
    """What an agent did: its contribution, and the truth that only the referee is told.

    Attributes:
        x: Contributed inputs, float32 (n, C, H, W); rows stay in the order of the share.
        y: Contributed labels, int64 (n,).
        poisoned: Which rows were changed, bool (n,).
        x_triggered: Run-time inputs that are to set the backdoor off, (m, C, H, W); m is 0 for
            agents without a backdoor.
        targets: The label that each triggered input should get, int64 (m,).
        target: The one target label of an all-to-one backdoor, else None.
        source: The source class of a source-to-target backdoor, else None.
        x_part: The inputs of `x_triggered` with the agent's own part of the trigger alone, where
            the agents of its group train a part each, else None.
        run_rows: Which run-time row each triggered input was, ascending positions without
            repeats, int64 (m,); None: all rows, in their order.
    """

    x: Floats
    y: Ints
    poisoned: Bools
    x_triggered: Floats
    targets: Ints
    target: int | None = None
    source: int | None = None
    x_part: Floats | None = None
    run_rows: Ints | None = None


Aim = Literal["backdoor", "damage"]


@dataclass(frozen=True)
class Grant:
    """What a behaviour asks to be told.

    Attributes:
        pool: The clean rows of the other parties.
        group: The rows of the agents of its group, which then craft together.
    """

    pool: bool = False
    group: bool = False


class Behaviour(Method):
    """An agent's strategy in a game."""

    @property
    def malicious(self) -> bool:
        """Whether the agent cheats."""
        return True

    @property
    def aim(self) -> Aim:
        """What a cheating agent is after.

        ``backdoor``: answers to inputs of its own, scored by ASR. ``damage``: a model that is worse
        for everybody; it has no input at run time, and what counts is the clean accuracy lost. The
        aim decides which control games tell of it, and what the verdict says.
        """
        return "backdoor"

    @property
    def grant(self) -> Grant | None:
        """What it has to know beside its share to craft rows; None for nothing."""
        return None

    @abstractmethod
    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Return the contribution; the share itself is left alone.

        Raises:
            ValueError: If the behaviour cannot be played on this data; one line.
        """
