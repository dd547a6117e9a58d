"""What a defence is, and all that it is told.

A defence sees contributions and agent names (`Pool`) and the defender's own knowledge
(`Defender`), nothing else. Nothing reachable from these objects holds the referee's data.

A defence runs in the referee's process and plays the control games too. The seal keeps it from
finding secrets in what it is handed; it does not stop code that inspects the interpreter's frames
or remembers one game in the next. Defences that you did not write are to be read before use.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from learning.method import Method
from learning.models.features import features_of
from learning.pool import Floats, Ints, Pool
from learning.seeds import numpy_generator, torch_generator
from learning.training.job import BatchHook, Trained, TrainingRequests

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Defender:
    """What the defender knows besides the pool.

    Attributes:
        seed: The defender's own seed, `learning.seeds.derived_seed(game's seed, "defender")`;
            draws of defences are keyed by it and a purpose. With the game's seed a defence could
            replay the agents' draws.
        shape: Input shape (C, H, W).
        classes: Number of classes.
        agents: Names of the admitted agents, in scenario order.
        epochs: Length of one training, `training.epochs` of the scenario.
        device: Where models are.
        batch_size: Rows that fit one inference pass.
        memory_gib: Memory that a defence's own computations may take, `compute.memory_gib`.
    """

    seed: int
    shape: tuple[int, int, int]
    classes: int
    agents: tuple[str, ...]
    epochs: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 1024
    memory_gib: float = 4.0

    def numpy_generator(self, purpose: str) -> np.random.Generator:
        """Return a NumPy generator of the defender's for one purpose."""
        return numpy_generator(self.seed, f"defence/{purpose}")

    def torch_generator(self, purpose: str) -> torch.Generator:
        """Return a CPU torch generator of the defender's for one purpose."""
        return torch_generator(self.seed, f"defence/{purpose}")

    def features(self, model: Trained, x: Floats) -> Floats:
        """Return the inputs of the model's last linear layer, float32 (n, d), in batches."""
        parts = [features_of(model.module, chunk).float().cpu() for chunk in self._chunks(x)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def logits(self, model: Trained, x: Floats) -> Floats:
        """Return the model's logits, float32 (n, classes), in batches."""
        parts = [model.module(chunk).float().cpu() for chunk in self._chunks(x)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def _chunks(self, x: Floats) -> list[Tensor]:
        rows, size = torch.from_numpy(x), self.batch_size
        return [rows[first : first + size].to(self.device) for first in range(0, len(rows), size)]


@dataclass(frozen=True)
class Verdict:
    """What a filter decided.

    Attributes:
        removed: Ids of the rows that it takes out.
        scores: For each row it looked at, id -> suspicion (higher is more suspicious), as two
            aligned arrays; ids may be any subset of the pool's.
        notes: One line each, for the report (an unstable clustering, a skipped class, ...).
    """

    removed: Ints
    scored_ids: Ints
    scores: Floats
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Predictor:
    """What a defender ends with: a model, or one for each asking agent.

    Attributes:
        shared: The models of everybody; their mean softmax is predicted. A single model is a
            tuple of one.
        by_agent: For each agent of the index, the models that answer it.
        guesser: Guesses the asking agent from the input where identities are not known.
        work: Trainings behind it, in units of one full training.
        notes: One line each, for the report.
    """

    shared: tuple[Trained, ...]
    by_agent: dict[str, tuple[Trained, ...]] = field(default_factory=dict)
    guesser: Guesser | None = None
    work: float = 1.0
    notes: tuple[str, ...] = ()

    def models(self, asking: str | None) -> tuple[Trained, ...]:
        """Return the models that answer `asking`; an unknown agent gets the shared ones."""
        if asking is None:
            return self.shared
        return self.by_agent.get(asking, self.shared)


NOBODY: Final = ""  # no agent has an empty name


class Guesser:
    """Guesses which agent asks, from the input alone (S1 appendix 7.2)."""

    @abstractmethod
    def guess(self, x: Floats) -> list[str]:
        """Return for each input (n, C, H, W) the name of the agent most similar to it.

        `NOBODY` where nothing can be told, as where the model's answer is not a number.
        """


class Defence(Method):
    """A defence of the pooled game; scenarios list them in the order in which they act."""

    @property
    def needs_own_rows(self) -> bool:
        """Whether it needs rows of the defender's in the pool (`defender_share` above 0)."""
        return False


class Filter(Defence):
    """Takes rows out of the pool before training."""

    @abstractmethod
    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`.

        A generator: ``model, = yield [Training(pool)]`` asks for a trained model.
        """


class Augmentation(Defence):
    """Changes or adds rows before training."""

    @abstractmethod
    def augment(self, pool: Pool, defender: Defender) -> TrainingRequests[Pool]:
        """Return the pool to go on with; a generator like `Filter.inspect`."""

    def remarks(self, before: Pool, after: Pool) -> tuple[str, ...]:
        """Return one line for the report for each thing that was asked for and not done.

        Args:
            before: The pool that `augment` was given.
            after: The pool that it returned.
        """
        return ()


class TrainingHook(Defence, BatchHook):
    """Acts on each training batch."""


@dataclass(frozen=True, eq=False)
class Unfiltered:
    """What an indexing defence needs to have its own parts of the rows filtered.

    Attributes:
        pool: All rows, before the filters and augmentations that stand before it.
        prepare: Plays these on some of the rows, and returns what is left of them.
    """

    pool: Pool
    prepare: Callable[[Pool], TrainingRequests[Pool]]


class Indexing(Defence):
    """Decides which models are trained and which of them answers whom."""

    @property
    def within_parts(self) -> bool:
        """Whether filters and augmentations before it are to be played on each of its parts."""
        return False

    @abstractmethod
    def predictor(
        self,
        pool: Pool,
        defender: Defender,
        hooks: tuple[BatchHook, ...],
        asked_by: tuple[str, ...],
        unfiltered: Unfiltered | None = None,
    ) -> TrainingRequests[Predictor]:
        """Train the models.

        Args:
            pool: What is left after filters and augmentations.
            defender: What the defender knows.
            hooks: Training-time hooks of the defences before this one.
            asked_by: Agents for which an answer will be needed. A control game asks for its
                attackers alone, so this says who they are: it may decide which models are
                trained, never what they are trained on. In the attacked game it is all agents.
            unfiltered: The rows before all that, for one that asks for it (`within_parts`); else
                it is not given.
        """

    def models(self, agents: int) -> int:
        """Return about how many models it trains for a game of `agents` agents that all ask."""
        return agents + 1
