"""What an aggregation rule is given and what it answers.

A rule sees the updates of one round, its own state and what the defender knows. It keeps nothing:
what it needs in the next round is in the state that it returns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from learning.method import Method
from learning.seeds import torch_generator
from learning.training.device import threads
from strategies.aggregation.updates import NotFinite, Updates

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]
Even = Literal["shares", "equal"]

GIBIBYTE = 2**30
# From so many rows on, the products of a chunk keep several threads busy.
MANY = 128


class Infeasible(ValueError):
    """The parameters of a rule do not fit the number of contributions."""


@dataclass(frozen=True, eq=False)
class Context:
    """What a rule may use besides the updates.

    Attributes:
        seed: The defender's own seed (`strategies.base.Defender.seed`); draws are keyed by it, a
            purpose and the round.
        memory: Bytes that a rule may take beyond the updates and its result. Updates that are
            mapped from a file are streamed within it.
        own: The defender's own update, (d,), trained on its own share; FLTrust needs it.
        head: Columns of the model's last linear layer; FoolsGold can be limited to them.
    """

    seed: int = 0
    memory: int = 4 * GIBIBYTE
    own: Tensor | None = None
    head: slice | None = None

    def generator(self, purpose: str, round: int) -> torch.Generator:
        """Return the CPU generator of one purpose and round."""
        return torch_generator(self.seed, f"defence/aggregation/{purpose}", round=round)


@dataclass(frozen=True, eq=False)
class Aggregate:
    """What a rule answers.

    Attributes:
        update: (d,), in the dtype and on the device of the updates.
        trust: Share of each row in `update`, float64 (n,) on the CPU, each >= 0, in all <= 1; None
            for rules that choose anew in each coordinate.
        selected: Which rows the rule took, bool (n,) on the CPU; None for rules that do not select.
        state: What the rule wants back in the next round; its tensors travel in checkpoints.
        notes: One line each, for the report.
    """

    update: Tensor
    trust: Tensor | None = None
    selected: Tensor | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Aggregator(Method):
    """A rule that makes one update of many.

    Rules assume finite rows: admission quarantines the others. A row that slipped through ends in
    `NotFinite` or has no influence; it never ends in a model that is not finite.

    Attributes:
        needs_own: Whether the rule needs `Context.own`, the defender's own update.
        undefended: Whether the rule is the plain mean that defences are compared with. Then the
            model's buffers are averaged as they come (`strategies.aggregation.parts.buffers`).
        majority: Whether the rule counts on most agents being honest. If not (the defender has
            other grounds to trust somebody), buffers are compared among those whom it trusts.
        even: The trust that the rule gives where it tells nobody apart: the registered ``shares``,
            or the same to each (``equal``). With it, more or less trust is the rule's judgement of
            an agent; None for rules whose trust is none (`selected` may be one all the same).
    """

    needs_own: ClassVar[bool] = False
    undefended: ClassVar[bool] = False
    majority: ClassVar[bool] = True
    even: ClassVar[Even | None] = None

    @property
    def draws(self) -> bool:
        """Whether the rule draws at random (`Context.generator`)."""
        return False

    def infeasible(self, n: int) -> str | None:
        """Return why the rule cannot aggregate `n` contributions, in one line, or None."""
        return None

    def aggregate(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Aggregate the updates of one round.

        Args:
            updates: At least one row; left as they are.
            state: `Aggregate.state` of the rule's last round, empty in its first.
            context: What the defender knows.

        Raises:
            Infeasible: If `infeasible` says so.
            NotFinite: If the result is not finite, or distances between rows are not.
        """
        reason = self.infeasible(len(updates))
        if reason is not None:
            raise Infeasible(reason)
        with threads_for(updates):
            result = self.apply(updates, state, context)
            finite = bool(torch.isfinite(result.update).all())
        if not finite:
            raise NotFinite(
                f"the aggregate of {name_of(self)} in round {updates.round} is not finite: expected"
                " finite updates below 1e150, so admit only those"
            )
        return result

    @abstractmethod
    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Do the work of `aggregate`, which has checked that the rule is feasible."""


class PreAggregator(Method):
    """A step before aggregation. Its rows need not be one for each agent any more."""

    @property
    def draws(self) -> bool:
        """Whether the step draws at random (`Context.generator`)."""
        return False

    def infeasible(self, n: int) -> str | None:
        """Return why the step cannot treat `n` contributions, in one line, or None."""
        return None

    def rows(self, n: int) -> int:
        """Return the number of rows that it makes of `n`."""
        return n

    def prepare(self, updates: Updates, context: Context) -> Updates:
        """Return what goes on to the next step.

        Raises:
            Infeasible: If `infeasible` says so.
        """
        reason = self.infeasible(len(updates))
        if reason is not None:
            raise Infeasible(reason)
        with threads_for(updates):
            return self.apply(updates, context)

    @abstractmethod
    def apply(self, updates: Updates, context: Context) -> Updates:
        """Do the work of `prepare`, which has checked that the step is feasible."""


def threads_for(updates: Updates) -> AbstractContextManager[None]:
    """Compute on one thread where the chunks of few rows give threads too little to share.

    Waiting for each other costs them more than they gain, ten times as much where another process
    holds a core; and one thread gives the same bits whatever the machine.
    """
    return threads(1 if len(updates) < MANY else None)


def name_of(method: Method) -> str:
    """Return the `kind` of a method."""
    return str(getattr(method, "kind", type(method).__name__))


def too_few(method: Method, formula: str, least: int, n: int) -> str | None:
    """Return the line that says that `n` contributions are fewer than `least`, or None."""
    if n >= least:
        return None
    told = f" with f = {f}" if (f := getattr(method, "f", None)) is not None else ""
    return f"{name_of(method)}{told} needs {formula} = {least} contributions or more, but got {n}"
