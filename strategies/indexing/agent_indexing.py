"""Agent indexing: an agent is answered by a model that never saw the agent's own rows.

S1 (Widen the backdoor) 4.2.2: "For an agent i, its corresponding model will only be trained on
data provided by different agents j, i != j. At inference time, the defender selects which model
to use based on the agent requesting the inference." An agent that the index does not know gets
the model of all. Where the asking agent is not known either, it is guessed from the input (S1
appendix 7.2, equation 3).

``method: exact`` is the paper's. The shortcuts keep the paper's promise (no model has seen the
rows of the agent that it answers) at less work and give somewhat different models; the report
names them. Fine-tuning the shared model without the agent's rows is not offered: it does not
take a backdoor out.

A filter that stands before the index sees all rows, an agent's own ones among them, and these
steer which others its own model is trained on: "never saw the rows" holds, independence of them
does not. ``filters: within_parts`` plays the filters anew for each agent, on the rows of the
others alone.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from learning.pool import Pool
from learning.training.job import BatchHook, TrainingRequests
from strategies.base import Defender, Indexing, Predictor, Unfiltered
from strategies.checks import refuse_unused
from strategies.indexing.exact import exact
from strategies.indexing.plan import Index, contributing_agents
from strategies.indexing.shards import shards
from strategies.indexing.similarity import SIMILARITIES
from strategies.indexing.tree import tree


class AgentIndexing(Indexing):
    """One model for each agent, trained without that agent's rows."""

    kind: Literal["agent_indexing"] = "agent_indexing"
    paper: ClassVar[str] = "S1, Datta et al., Widen the backdoor, 4.2.2 and 7.2 Agent Indexing"

    method: Literal["exact", "tree", "shards"] = Field(
        "exact",
        description="`exact`: one training for each agent, as in S1. `tree`: a tree of trainings, "
        "O(log N) of them. `shards`: an ensemble over shards of which one member is trained again.",
        json_schema_extra={"origin": "paper"},
    )
    passes: float = Field(
        0.1,
        gt=0,
        le=100,
        description="A node of the tree trains this many times training.epochs (halves up, at "
        "least one epoch); read with method: tree.",
        json_schema_extra={"origin": "ours"},
    )
    replay: float = Field(
        20.0,
        ge=0,
        le=10_000,
        description="Rows seen before that a node of the tree trains on, for each new row (halves "
        "up; as many as there are); read with method: tree.",
        json_schema_extra={"origin": "ours"},
    )
    shards: int = Field(
        4,
        ge=2,
        le=10_000,
        description="Number of shards; read with method: shards.",
        json_schema_extra={"origin": "ours"},
    )
    index: Literal["known", "unknown"] = Field(
        "known",
        description="Whether agents identify themselves when they ask; if not, they are guessed.",
        json_schema_extra={"origin": "paper"},
    )
    similarity: Literal["nearest_features", "mmd"] = Field(
        "nearest_features",
        description="How the asking agent is guessed from the input; read with index: unknown.",
        json_schema_extra={"origin": "ours"},
    )

    filters: Literal["pool", "within_parts"] = Field(
        "pool",
        description="Where filters (and augmentations) before it are played. `pool`: once, on all "
        "rows, so that an agent's rows may steer, by the verdict, what its own model sees of the "
        "others'. `within_parts`: for each agent's model anew, on the rows that are not the "
        "agent's, so that its model does not depend on its rows at all; costs the filters' "
        "trainings once for each agent. With method: exact.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_unused(self) -> AgentIndexing:
        own = {"exact": (), "tree": ("passes", "replay"), "shards": ("shards",)}
        refuse_unused(self, "method", own)
        refuse_unused(self, "index", {"known": (), "unknown": ("similarity",)})
        if self.within_parts and self.method != "exact":
            raise ValueError(
                f"filters: within_parts needs method: exact, got {self.method}, whose models "
                "share parts"
            )
        return self

    @property
    def within_parts(self) -> bool:
        """Whether filters are played for each agent's model anew."""
        return self.filters == "within_parts"

    def predictor(
        self,
        pool: Pool,
        defender: Defender,
        hooks: tuple[BatchHook, ...],
        asked_by: tuple[str, ...],
        unfiltered: Unfiltered | None = None,
    ) -> TrainingRequests[Predictor]:
        """Train the models; see `Indexing.predictor`.

        Agents without a row in the pool are answered by the shared models (with within_parts:
        without one before the filters, for what these take must not decide). With an unknown
        index every contributor may be guessed, so each gets a model whoever is going to ask.

        Raises:
            ValueError: If the pool holds one contributor's rows alone.
        """
        agents = contributing_agents(unfiltered.pool if unfiltered else pool)
        if self.index == "known":
            agents = tuple(name for name in agents if name in set(asked_by))
        found = yield from self._train(pool, defender, hooks, agents, unfiltered)
        guesser = None
        if self.index == "unknown" and agents:
            guesser = SIMILARITIES[self.similarity](pool, defender, found.shared, agents)
        return Predictor(found.shared, found.by_agent, guesser, found.work, self._notes(found))

    def models(self, agents: int) -> int:
        """See `Indexing.models`."""
        return 2 * self.shards if self.method == "shards" else super().models(agents)

    def _train(
        self,
        pool: Pool,
        defender: Defender,
        hooks: tuple[BatchHook, ...],
        agents: tuple[str, ...],
        unfiltered: Unfiltered | None,
    ) -> TrainingRequests[Index]:
        if self.method == "tree":
            return (yield from tree(pool, defender, hooks, agents, self.passes, self.replay))
        if self.method == "shards":
            return (yield from shards(pool, defender, hooks, agents, self.shards))
        return (yield from exact(pool, defender, hooks, agents, unfiltered))

    def _notes(self, found: Index) -> tuple[str, ...]:
        if self.within_parts:
            return (
                f"filters were played anew for each of {len(found.by_agent)} agents' models, on "
                "the others' rows; their verdict above is that of the model of everybody",
            )
        if self.method == "exact":
            return ()
        return (
            f"agent indexing by the shortcut `{self.method}`: {found.work:.2f} trainings' work "
            f"where exact indexing takes about {len(found.by_agent) + 1}",
        )
