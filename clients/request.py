"""What an agent is asked in a round of a federated game."""

from __future__ import annotations

from dataclasses import dataclass, field

from learning.messages import RoundInfo
from learning.weights import State


@dataclass(frozen=True, eq=False)
class RuleKnowledge:
    """What an attacker is told of the rule that it is granted to know.

    Attributes:
        memory: What the rule has kept of the rounds before.
        shares: Agent and registered rows of each update that it is granted, in their order, and
            then of each accomplice.
    """

    memory: State = field(default_factory=dict)
    shares: tuple[tuple[str, float], ...] = ()

    @classmethod
    def read(cls, memory: State, shares: State) -> RuleKnowledge:
        """Return what the records of a request say."""
        rows = ((name.split("/", 1)[1], float(value)) for name, value in shares.items())
        return cls(memory, tuple(rows))


@dataclass(frozen=True, eq=False)
class Request:
    """What one agent is asked in a round.

    Attributes:
        agent: Whom it was sent to.
        round: From 1.
        world: Which game it is, the attacked one or a control; see `learning.worlds`.
        start: The global model.
        previous: The global model of the round before; sent to attacks that listen.
        facts: What an attacker is told besides.
    """

    agent: str
    round: int
    world: str
    start: State
    previous: State | None = None
    facts: RoundInfo = field(default_factory=RoundInfo)
