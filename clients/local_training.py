"""An agent's part of a round: train the global model on its own, perhaps poisoned, rows.

An agent alone and many agents together go through the same lines; whether a cohort is trained as
one is the training engine's business (`learning.training.engine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clients.agents import Agents
from learning.pool import Block, Pool
from learning.training.engine import Engine, Recipe
from learning.training.job import Training
from learning.weights import Arrays, State, to_arrays
from scenarios.schema import Scenario


@dataclass(frozen=True, eq=False)
class Request:
    """What one agent is asked to train.

    Attributes:
        agent: Whom it was sent to.
        round: From 1.
        poisoned: Whether a malicious agent plays its behaviour in this game; in control games
            it trains on its clean rows.
        start: The global model.
    """

    agent: str
    round: int
    poisoned: bool
    start: State


class LocalTraining:
    """Local training of the agents of one scenario in this process.

    Args:
        scenario: What is played.
        agents: Plays the behaviours.
        shape: Input shape (C, H, W).
        classes: Number of classes.
    """

    def __init__(
        self, scenario: Scenario, agents: Agents, shape: tuple[int, int, int], classes: int
    ) -> None:
        self._epochs = scenario.federation.local_epochs
        self._agents = agents
        self._classes = classes
        self._engine = Engine(
            Recipe(
                architecture=scenario.model,
                shape=shape,
                classes=classes,
                training=scenario.training.model_copy(update={"epochs": self._epochs}),
                compute=scenario.compute,
                seed=scenario.seed,
            )
        )
        self._blocks: dict[tuple[str, bool], Block] = {}

    def train(self, requests: Sequence[Request]) -> list[Arrays]:
        """Return each request's trained model, as named arrays."""
        jobs = [
            Training(
                Pool((self._block(request.agent, request.poisoned),), self._classes),
                start=self._engine.holding(request.start),
                epochs=self._epochs,
                purpose=f"round/{request.round}/{request.agent}",
            )
            for request in requests
        ]
        models = self._engine.train(jobs)
        self._engine.forget()
        return [to_arrays(model.module.state_dict()) for model in models]

    def _block(self, agent: str, poisoned: bool) -> Block:
        key = (agent, poisoned)
        if key not in self._blocks:
            share, play = self._agents.play(agent)
            x, y = (play.x, play.y) if poisoned else (share.x_train, share.y_train)
            self._blocks[key] = Block(agent, 0, x, y)
        return self._blocks[key]
