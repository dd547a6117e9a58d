"""The rounds of a federated game."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from learning.families.table import FAMILIES
from learning.frozen import Frozen
from learning.method import one_of
from learning.participation.base import ClientSampling
from learning.participation.uniform import Uniform
from learning.server_optimizers.base import ServerOptimizer
from learning.server_optimizers.fedavg import FedAvg
from learning.shares import count_of

if TYPE_CHECKING:
    AnySampling = ClientSampling
    AnyServerOptimizer = ServerOptimizer
else:
    AnySampling = one_of(ClientSampling, FAMILIES["participation"])
    AnyServerOptimizer = one_of(ServerOptimizer, FAMILIES["server_optimizer"])


class FederationSpec(Frozen):
    """Rounds of broadcast, local training, admission and aggregation.

    The optimiser and the batch size of local training are those of `training`.
    """

    rounds: int = Field(10, ge=1, le=100_000, description="Number of rounds.")
    local_epochs: int = Field(
        1, ge=1, le=10_000, description="Epochs that an agent trains in a round it is sampled for."
    )
    local_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Steps that it trains instead, whatever its number of rows; null: epochs.",
    )
    proximal: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="FedProx's mu: local training is drawn to the global model by mu / 2 times "
        "the squared distance (Li et al., MLSys 2020); 0: FedAvg.",
    )
    participation: Annotated[float, Field(gt=0, le=1)] | AnySampling = Field(
        1.0,
        description="Share of the agents sampled for a round, by name, from the seed (halves "
        "up: 3 of 5 with 0.5); at least one. Or a mapping that says how they are sampled.",
    )
    agents_per_round: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Number of agents sampled for a round, instead of a share; null: the share.",
    )
    malicious_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of each round's agents that are malicious, the same in every round "
        "(halves up); null: as the draw among all agents has it.",
        json_schema_extra={"origin": "ours"},
    )
    server_optimizer: AnyServerOptimizer = Field(
        FedAvg(), description="What the server does with the aggregate."
    )
    quorum: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the sampled agents whose updates must be admitted (rounded up, at "
        "least one); a round with fewer leaves the model as it is.",
        json_schema_extra={"origin": "ours"},
    )
    fallback: Literal["skip", "median"] = Field(
        "skip",
        description="What a defender does in a round in which drop-outs or refusals have left too "
        "few updates for its rule. skip: the model stays as it is; median: the coordinate-wise "
        "median of the updates that came, for this round. Either is recorded.",
        json_schema_extra={"origin": "ours"},
    )
    evaluate_every: int = Field(
        1, ge=1, le=100_000, description="Rounds between two evaluations; the last round counts."
    )

    def enough(self, invited: int) -> int:
        """Return how many updates of `invited` agents must be admitted, at least 1."""
        return max(1, count_of(self.quorum, invited, rounding="ceil"))


def sampling_of(federation: FederationSpec) -> ClientSampling:
    """Return how agents are sampled; a bare share is one of all agents, uniformly."""
    given = federation.participation
    return given if isinstance(given, ClientSampling) else Uniform(share=given)


def round_size(federation: FederationSpec, agents: int) -> int:
    """Return how many of `agents` are sampled for a round, at least 1."""
    if federation.agents_per_round is not None:
        return min(federation.agents_per_round, agents)
    return max(1, count_of(sampling_of(federation).share, agents))


def malicious_in_round(share: float, participants: int) -> int:
    """Return the fixed number of malicious agents in a round; halves up."""
    return count_of(share, participants)
