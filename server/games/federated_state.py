"""What a federated game carries from one round to the next: one explicit value.

It holds where every side stands, what the referee has told of each round, who was refused and how
much was trained. That is all there is. Who takes part, every shuffle, dropout mask and trigger is
drawn from a generator keyed by (seed, purpose, round, agent), so no positions of generators exist;
agents keep nothing between rounds and are sent what they need; the detection scores and the effort
of a game follow from its rounds and its scenario. A game that goes on from a `FederationState`
therefore ends with the bytes of one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from server.referee.results import Count, Quarantine, RoundScores
from server.wire.updates import Side, State
from strategies.federated import ServerState

# By agent: round, epoch, rounds.
Diverged = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, eq=False)
class SideState:
    """One federation of one defender in one world.

    Attributes:
        standing: Where it stands: weights, buffers, the rule's and the server optimiser's state.
        previous: The model that its agents were sent in the last round; None before the first
            round, and in games in which nobody is sent it again.
    """

    standing: ServerState
    previous: State | None = None


@dataclass(frozen=True, eq=False)
class FederationState:
    """A federated game between two rounds.

    Attributes:
        round: Rounds played.
        sides: By defender, world and part, in the order of play.
        told: By defender: the rounds of the attacked game.
        quarantined: Refused updates.
        trainings: Models trained.
        notes: What the training had to say, each line once.
        diverged: Agents whose trainings diverged: the first round, its epoch, and in how many
            rounds.
        seconds: Wall time by phase, of all processes that played the game.
    """

    round: int
    sides: Mapping[Side, SideState]
    told: Mapping[str, tuple[RoundScores, ...]]
    quarantined: tuple[Quarantine, ...] = ()
    trainings: int = 0
    notes: tuple[str, ...] = ()
    diverged: Diverged = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class FederationFacts(BaseModel):
    """What of a `FederationState` is no tensor, as JSON.

    Attributes:
        sides: Defender, world and part of each side, in order.
        stepped: The sides whose server optimiser has taken a step, by position.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, ser_json_inf_nan="strings"
    )

    round: Count
    sides: tuple[Side, ...]
    stepped: tuple[Count, ...]
    told: dict[str, tuple[RoundScores, ...]]
    quarantined: tuple[Quarantine, ...]
    trainings: Count
    notes: tuple[str, ...]
    diverged: dict[str, tuple[Count, Count, Count]] = Field(default_factory=dict)
    seconds: dict[str, float]


def taken_apart(progress: FederationState) -> tuple[FederationFacts, dict[str, Tensor]]:
    """Return a progress as JSON values and tensors; side k's are called ``k/...``."""
    tensors: dict[str, Tensor] = {}
    stepped = []
    for at, side in enumerate(progress.sides.values()):
        standing, step = side.standing, side.standing.step
        tensors[f"{at}/weights"] = standing.weights
        if step is not None:
            stepped.append(at)
            # Some keep nothing; that a step was taken is then told by this one alone.
            tensors[f"{at}/stepped"] = standing.weights.new_empty(0)
            tensors |= {f"{at}/step/{name}": value for name, value in step.items()}
        named = {"buffers": standing.buffers, "rule": standing.rule, "previous": side.previous}
        for family, some in named.items():
            tensors |= {f"{at}/{family}/{name}": value for name, value in (some or {}).items()}
    facts = FederationFacts(
        round=progress.round,
        sides=tuple(progress.sides),
        stepped=tuple(stepped),
        told=dict(progress.told),
        quarantined=progress.quarantined,
        trainings=progress.trainings,
        notes=progress.notes,
        diverged=dict(progress.diverged),
        seconds=dict(progress.seconds),
    )
    return facts, tensors


def put_together(facts: FederationFacts, tensors: Mapping[str, Tensor]) -> FederationState:
    """Return what `taken_apart` took apart.

    Raises:
        KeyError: If a tensor is missing.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        at, family, *rest = name.split("/", 2)
        parts.setdefault(f"{at}/{family}", {})["/".join(rest)] = value
    sides = {
        side: SideState(_standing(parts, at, at in facts.stepped), parts.get(f"{at}/previous"))
        for at, side in enumerate(facts.sides)
    }
    return FederationState(
        round=facts.round,
        sides=sides,
        told=facts.told,
        quarantined=facts.quarantined,
        trainings=facts.trainings,
        notes=facts.notes,
        diverged=facts.diverged,
        seconds=facts.seconds,
    )


def _standing(parts: Mapping[str, Mapping[str, Tensor]], at: int, stepped: bool) -> ServerState:
    if stepped:
        parts[f"{at}/stepped"]
    return ServerState(
        weights=parts[f"{at}/weights"][""],
        buffers=parts.get(f"{at}/buffers", {}),
        rule=parts.get(f"{at}/rule", {}),
        step=parts.get(f"{at}/step", {}) if stepped else None,
    )


def misfit(progress: FederationState, start: FederationState, rounds: int) -> str | None:
    """Return why a progress is none of the game that begins as `start`, in one line, or None."""
    if not 0 < progress.round <= rounds:
        return f"expected a round of 1 to {rounds}, got {progress.round}"
    if list(progress.sides) != list(start.sides) or progress.told.keys() != start.told.keys():
        return f"expected the {len(start.sides)} models of this game, got others"
    for key, side in progress.sides.items():
        if _layout(side.standing) != _layout(start.sides[key].standing):
            return f"expected the weights of the game's model for {key[0]!r}, got others"
    if any(len(entries) != progress.round for entries in progress.told.values()):
        return f"expected the scores of {progress.round} rounds, got another number"
    return None


def _layout(standing: ServerState) -> dict[str, tuple[object, ...]]:
    named = {"": standing.weights, **standing.buffers}
    return {name: (value.dtype, *value.shape) for name, value in named.items()}
