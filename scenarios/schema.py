"""The scenario schema: the single source of every field, default and range.

`kind` picks a method; the methods' parameters are the fields of their own classes, which are
found by name in the folders of their families (`learning.method.discover`), so that adding a
method never touches this file.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from learning.attacks.base import InputAttack
from learning.data.base import DataSource
from learning.method import Method, one_of
from learning.models.base import Architecture
from learning.pool import DEFENDER
from learning.training.spec import ComputeSpec, TrainingSpec

# Behaviours and defences stand above this folder; they are found by name, not imported.
if TYPE_CHECKING:
    AnyData = DataSource
    AnyModel = Architecture
    AnyAttack = InputAttack
    AnyPartition = Method
    AnyBehaviour = Method
    AnyDefence = Method
else:
    from learning.data.partition.base import Partition

    AnyData = one_of(DataSource, "learning.data")
    AnyModel = one_of(Architecture, "learning.models")
    AnyAttack = one_of(InputAttack, "learning.attacks")
    AnyPartition = one_of(Partition, "learning.data.partition")
    AnyBehaviour = one_of(Method, "clients.behaviours")
    AnyDefence = one_of(
        Method,
        "strategies.filtering",
        "strategies.augmentation",
        "strategies.indexing",
        "strategies.hooks",
    )


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("expected printable characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]


class _Spec(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class AgentGroup(_Spec):
    """Agents that play alike; each has its own name, data and draws.

    A group of one keeps its name; a larger one is numbered (`mallory-01`, ...).
    """

    name: Name
    count: int = Field(1, ge=1, le=100_000)
    behaviour: AnyBehaviour


class PoisonCount(_Spec):
    """How poison rates become numbers of rows (S0 A.2.1).

    Attributes:
        reference_agents: Poison rates refer to the share that each of this many agents would
            have, so that an attacker poisons the same number of rows whatever the number of
            agents is; null: to the agent's own contributed rows.
        rounding: S0's printed counts fit no single rule, hence a field.
    """

    reference_agents: int | None = Field(None, ge=1, le=1_000_000)
    rounding: Literal["nearest", "floor", "ceil"] = "nearest"


class RefereeSpec(_Spec):
    """What the referee scores and which control games it plays.

    Attributes:
        alone: How many attackers of each group are also played alone; "all" for every one.
        attacker_free: Whether the game without attackers is played (needed for `asr_untrained`).
        cross_asr: Whether to score each trigger against each target; at most 100 attackers.
        adversarial: Attacks on clean test inputs.
        adversarial_rows: Test inputs used for them, drawn by the seed.
    """

    alone: int | Literal["all"] = 2
    attacker_free: bool = True
    cross_asr: bool = True
    adversarial: tuple[AnyAttack, ...] = ()
    adversarial_rows: int = Field(500, ge=1)

    @model_validator(mode="after")
    def _check_alone(self) -> RefereeSpec:
        if isinstance(self.alone, int) and self.alone < 0:
            raise ValueError("expected alone >= 0")
        return self


@dataclass(frozen=True)
class Place:
    """An agent of the roster: its name, its group's entry and its position in it."""

    name: str
    group: AgentGroup
    index: int


class Scenario(_Spec):
    """Everything needed to replay a game."""

    name: Name
    description: str = Field("", max_length=4000)
    game: Literal["pooled"] = "pooled"
    data: AnyData
    model: AnyModel
    training: TrainingSpec = TrainingSpec()
    compute: ComputeSpec = ComputeSpec()
    defender_share: float = Field(0.4, ge=0, lt=1)
    run_time_share: float = Field(0.2, gt=0, lt=1)
    partition: AnyPartition = Field(default_factory=lambda: _default_partition())
    poison_count: PoisonCount = PoisonCount()
    agents: tuple[AgentGroup, ...] = Field(min_length=1, max_length=10_000)
    defenders: dict[Name, tuple[AnyDefence, ...]] = Field(min_length=1, max_length=100)
    referee: RefereeSpec = RefereeSpec()
    seed: int = Field(0, ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _check_names(self) -> Scenario:
        names = [place.name for place in self.roster()]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(
            set(names)
        ) < len(names) else []
        if twice:
            raise ValueError(f"two agents are called {twice[0]!r}: give each group its own name")
        if DEFENDER in names:
            raise ValueError(f"an agent cannot be called {DEFENDER!r}")
        return self

    def roster(self) -> tuple[Place, ...]:
        """Return all agents in scenario order."""
        return tuple(
            Place(_numbered(group, index), group, index)
            for group in self.agents
            for index in range(group.count)
        )

    def resolved(self) -> dict[str, Any]:
        """Return the scenario with every default written out, as JSON values."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the resolved scenario and its seed.

        `compute` and `description` do not change what the game is and are left out.
        """
        resolved = {k: v for k, v in self.resolved().items() if k not in {"compute", "description"}}
        text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def slug(self) -> str:
        """Return the name as a safe file name."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-")[:48] or "game"


def _numbered(group: AgentGroup, index: int) -> str:
    if group.count == 1:
        return group.name
    return f"{group.name}-{index + 1:0{max(2, len(str(group.count)))}d}"


def _default_partition() -> Any:
    from learning.data.partition.iid import IID

    return IID()
