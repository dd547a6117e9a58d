"""The scenario schema: the single source of every field, default and range.

`kind` picks a method; the methods' parameters are the fields of their own classes, which are
found by name in the folders of their families (`FAMILIES`), so that adding a method never touches
this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from learning.attacks.base import InputAttack
from learning.data.base import DataSource
from learning.data.partition.base import Partition
from learning.families.origins import Record
from learning.frozen import Frozen
from learning.method import Method, one_of, plugins_in
from learning.models.base import Architecture
from learning.training.spec import ComputeSpec, TrainingSpec
from learning.worlds import ATTACKED, repeat_of
from scenarios.digest import digest_of
from scenarios.families import DEFENCES, FAMILIES
from scenarios.federation import FederationSpec, round_size
from scenarios.games import GAMES, Game, shared_games

if TYPE_CHECKING:
    AnyData = DataSource
    AnyModel = Architecture
    AnyAttack = InputAttack
    AnyPartition = Partition
    AnyBehaviour = Method
    AnyDefence = Method
    AnyUpdateAttack = Method

    class AnyScore(Method):
        """A score that a scenario asks for."""

        @property
        def title(self) -> str:
            """Its name in results."""

else:
    AnyData = one_of(DataSource, FAMILIES["data"])
    AnyModel = one_of(Architecture, FAMILIES["model"])
    AnyAttack = one_of(InputAttack, FAMILIES["attack"])
    AnyPartition = one_of(Partition, FAMILIES["partition"])
    AnyBehaviour = one_of(Method, FAMILIES["behaviour"])
    AnyUpdateAttack = one_of(Method, FAMILIES["update_attack"])
    AnyDefence = one_of(Method, *(FAMILIES[name] for name in DEFENCES))
    AnyScore = one_of(Method, FAMILIES["score"])


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("expected printable characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]


class Window(Frozen):
    """Rounds of a federated game."""

    first: int = Field(1, ge=1, le=100_000, description="First round.")
    last: int | None = Field(
        None, ge=1, le=100_000, description="Last round; null: the last one of the game."
    )
    times: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="In how many of these rounds an agent cheats at most, of those that it is "
        "sampled for, from the first one on; 1: one shot; null: every time.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Window:
        if self.last is not None and self.last < self.first:
            raise ValueError(
                f"expected a last round from {self.first}, the first one, on, got {self.last}"
            )
        return self


class AgentGroup(Frozen):
    """Agents that play alike; each has its own name, data and draws.

    A group of one keeps its name; a larger one is numbered (`mallory-01`, ...).
    """

    name: Name = Field(description="Name of the group; no two groups share one.")
    count: int = Field(1, ge=1, le=100_000, description="Number of agents in the group.")
    behaviour: AnyBehaviour = Field(description="What each of these agents does with its data.")
    update: AnyUpdateAttack | None = Field(
        None,
        description="What each of these agents does with its model update in a federated game; "
        "null: it hands over what it has trained.",
    )
    window: Window = Field(
        Window(),
        description="The rounds in which these agents cheat; at other times they train "
        "on their clean rows and hand over what they have trained.",
    )

    @property
    def malicious(self) -> bool:
        """Whether these agents cheat, with their data or with their updates."""
        return self.update is not None or bool(getattr(self.behaviour, "malicious", True))


class PoisonCount(Frozen):
    """How poison rates become numbers of rows (S0 A.2.1)."""

    reference_agents: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Poison rates refer to the share that each of this many agents would have, so "
        "that an attacker poisons the same number of rows whatever the number of agents is (S0 "
        "A.2.1); null: to the agent's own contributed rows.",
    )
    reference_rows: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Rows of the joint data that reference_agents are taken to share with the "
        "defender, such as the number that a paper counts from; null: the rows that are dealt, "
        "without the referee's. Read only where reference_agents is set.",
        json_schema_extra={"origin": "ours"},
    )
    rounding: Literal["nearest", "floor", "ceil"] = Field(
        "nearest",
        description="How a fractional number of poisoned rows is rounded; nearest rounds halves "
        "up, as all other shares are. S0's printed counts fit no single rule.",
        json_schema_extra={"origin": "ours"},
    )


def _is_empty(value: tuple[object, ...]) -> bool:
    return not value


class RefereeSpec(Frozen):
    """What the referee scores and which control games it plays."""

    alone: Annotated[int, Field(ge=0, le=100_000)] | Literal["all", "auto"] = Field(
        "auto",
        description="How many attackers of each group are also played alone, which tells "
        "backfiring from dilution; all: every one; auto: every one where that takes at most as "
        "many trainings as the attacked game, else 2.",
        json_schema_extra={"origin": "ours"},
    )
    repeats: int = Field(
        1,
        ge=1,
        le=100,
        description="How often each game that scores compare is trained, from other initial "
        "weights and in another order of rows. From 2 on intervals of asr_alone - asr hold the "
        "noise of training, and a game may say that attackers backfired; with 1 it describes what "
        "happened in it. A sweep has its seeds for that.",
        json_schema_extra={"origin": "ours"},
    )
    repeated: Literal["reference", "all"] = Field(
        "reference",
        description="Whose games are trained `repeats` times: those of the defender that the "
        "finding is about (the first without a defence, else the first), or of all that the "
        "control games are played against. The others are described.",
        json_schema_extra={"origin": "ours"},
    )
    attacker_free: bool = Field(
        True,
        description="Also play the game without attackers; needed for asr_untrained and for "
        "clean_accuracy_attacker_free.",
        json_schema_extra={"origin": "ours"},
    )
    controls: tuple[Name, ...] | None = Field(
        None,
        max_length=100,
        description="Defenders that the control games are also played against; null: all. Exact "
        "indexing, say, trains a model for each agent once more in every control game.",
        json_schema_extra={"origin": "ours"},
    )
    cross_asr: bool = Field(
        True,
        description="Score each attacker's trigger against each attacker's target label; for at "
        "most 100 attackers.",
        json_schema_extra={"origin": "ours"},
    )
    adversarial: tuple[AnyAttack, ...] = Field(
        (), max_length=32, description="Attacks on clean test inputs at run time."
    )
    adversarial_rows: int = Field(
        500,
        ge=1,
        le=10_000_000,
        description="Number of test inputs that they are run on, drawn by the seed.",
        json_schema_extra={"origin": "ours"},
    )
    # Left out of what is resolved, and so of the hash, where it is empty: a scenario that asks
    # for none is the scenario that it was before there were any.
    scores: tuple[AnyScore, ...] = Field(
        (),
        max_length=32,
        exclude_if=_is_empty,
        description="Scores beside those of every game.",
        json_schema_extra={"origin": "ours"},
    )

    @field_validator("scores")
    @classmethod
    def _check_scores(cls, scores: tuple[AnyScore, ...]) -> tuple[AnyScore, ...]:
        titles = [score.title for score in scores]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"expected each score once, got {title} twice")
        averaged = {getattr(score, "averaged_epochs", 0) for score in scores} - {0}
        if len(averaged) > 1:
            raise ValueError(
                f"expected one number of epochs to average weights over, got {sorted(averaged)}"
            )
        return scores


@dataclass(frozen=True)
class AgentSpec:
    """An agent of the roster: its name, its group's entry and its position in it."""

    name: str
    group: AgentGroup
    index: int


def agent_name(group: AgentGroup, index: int) -> str:
    """Return the name of an agent: its group's where it is the only one, else a numbered one."""
    if group.count == 1:
        return group.name
    return f"{group.name}-{index + 1:0{max(2, len(str(group.count)))}d}"


class Draft(Frozen):
    """A scenario whose fields are each in range; that they fit each other is not checked yet."""

    name: Name = Field(description="Name of the scenario; run folders carry it.")
    description: str = Field(
        "", max_length=4000, description="What the game shows, for readers; not part of the game."
    )
    game: Literal["pooled", "federated", "both"] = Field(
        "pooled",
        description="pooled: agents contribute data once, the defender trains. federated: agents "
        "contribute model updates, round after round. both: the same agents play the one and the "
        "other, a defender each game in which all its defences can be played; the report sets the "
        "games side by side.",
    )
    data: AnyData = Field(description="The data set that is dealt to all parties.")
    model: AnyModel = Field(description="The model that the defender trains.")
    training: TrainingSpec = Field(TrainingSpec(), description="How the defender trains.")
    federation: FederationSpec = Field(
        FederationSpec(), description="The rounds; read by federated games."
    )
    compute: ComputeSpec = Field(
        ComputeSpec(),
        description="Where and how to compute; of this only bfloat16 is part of the game.",
    )
    defender_share: float = Field(
        0.4,
        ge=0,
        lt=1,
        description="Share of all training rows that the defender itself holds (V_d; halves up).",
        json_schema_extra={"origin": "paper"},
    )
    run_time_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of an agent's rows that it keeps for run time, where its backdoor is "
        "scored (halves up; at least one row, and not all).",
        json_schema_extra={"origin": "paper"},
    )
    partition: AnyPartition = Field(
        default_factory=lambda: _default_partition(),
        description="How the rows that the defender does not hold are dealt to the agents.",
    )
    poison_count: PoisonCount = Field(
        PoisonCount(), description="How poison rates become numbers of rows."
    )
    agents: tuple[AgentGroup, ...] = Field(
        min_length=1, max_length=10_000, description="The agents, group by group."
    )
    defenders: dict[Name, tuple[AnyDefence, ...]] = Field(
        min_length=1,
        max_length=100,
        description="For each defender its defences, in the order in which they act; an empty "
        "list is the undefended game. All defenders face the same contributions.",
    )
    referee: RefereeSpec = Field(RefereeSpec(), description="What is scored, and the controls.")
    deadline: float = Field(
        3600.0,
        gt=0,
        le=1_000_000,
        description="Seconds that the agents have for each thing asked of them; who is late is "
        "out of the game.",
        json_schema_extra={"origin": "ours"},
    )
    joining: float = Field(
        300.0,
        gt=0,
        le=1_000_000,
        description="Seconds that are waited for all agents before the game begins; who has not "
        "joined by then is out of it.",
        json_schema_extra={"origin": "ours"},
    )
    max_message_mib: float = Field(
        1024.0,
        gt=0,
        le=65_536,
        description="Largest reply that is taken from an agent on a machine of its own, in MiB.",
        json_schema_extra={"origin": "ours"},
    )
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="All randomness of the game follows from it."
    )

    def roster(self) -> tuple[AgentSpec, ...]:
        """Return all agents in scenario order."""
        return tuple(
            AgentSpec(agent_name(group, index), group, index)
            for group in self.agents
            for index in range(group.count)
        )

    def games(self) -> tuple[Game, ...]:
        """Return the games that are played, in their order."""
        return GAMES if self.game == "both" else (self.game,)

    def only(self, game: Game) -> Self:
        """Return the scenario that plays one game of this one, with the same agents and seed.

        Defenders that cannot be played in it are left out. In a pooled game there are no updates
        to attack and no rounds: agents contribute the data of their behaviour.
        """
        changes: dict[str, Any] = {
            "game": game,
            "defenders": {
                name: defences
                for name, defences in self.defenders.items()
                if game in shared_games(defences)
            },
        }
        if game == "pooled":
            alike = {"update": None, "window": Window()}
            changes["agents"] = tuple(group.model_copy(update=alike) for group in self.agents)
            changes["federation"] = FederationSpec()
        return self.model_copy(update=changes)

    def sampled(self) -> int:
        """Return how many agents are sampled for a round of a federated game, at least 1."""
        return round_size(self.federation, sum(group.count for group in self.agents))

    @property
    def reference(self) -> str:
        """The defender that the others are set beside: the first undefended, else the first."""
        return next(
            (name for name, defences in self.defenders.items() if not defences),
            next(iter(self.defenders)),
        )

    def plays(self, defender: str, world: str) -> bool:
        """Return whether a defender is played in a world: all in the attacked one."""
        referee, (repeat, played) = self.referee, repeat_of(world)
        controlled = referee.controls is None or defender in referee.controls
        if repeat:
            chosen = referee.repeated == "all" or defender == self.reference
            return repeat < referee.repeats and controlled and chosen
        return played == ATTACKED or controlled

    def resolved(self) -> dict[str, Any]:
        """Return the scenario with every default written out, as JSON values."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the resolved scenario and its seed; see `digest_of`."""
        return digest_of(self.resolved(), self.plugins())

    def plugins(self) -> list[Record]:
        """Return where the methods come from that are not of this house; see `plugins_in`."""
        return plugins_in(self)

    def slug(self) -> str:
        """Return the name as a safe file name."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-")[:48] or "game"


def _default_partition() -> Partition:
    from learning.data.partition.iid import IID

    return IID()
