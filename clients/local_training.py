"""An agent's part of a round: train the global model on its own, perhaps poisoned, rows.

An agent alone and many agents together go through the same lines; whether a cohort is trained as
one is the training engine's business (`learning.training.engine.engine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch

from clients.agents import Agents
from clients.crafting import attack_of, before, crafted, view
from clients.request import Request, RuleKnowledge
from clients.update_attacks.base import LocalPlan, UpdateAttack
from clients.update_attacks.local_rows import LocalKnowledge, LocalRows
from learning.method import kind_of
from learning.pool import Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training, UpdateConstraint
from learning.training.repeats import order_of
from learning.weights import Arrays, State, WeightLayout, to_arrays
from learning.worlds import cheats, repeat_of
from scenarios.participation import Participation
from scenarios.scenario import Scenario


class LocalTraining:
    """Local training and update attacks of the agents of one scenario in this process.

    Args:
        scenario: What is played.
        agents: Plays the behaviours.
        shape: Input shape (C, H, W).
        classes: Number of classes.
        participation: Who takes part in which round.
    """

    def __init__(
        self,
        scenario: Scenario,
        agents: Agents,
        shape: tuple[int, int, int],
        classes: int,
        participation: Participation,
    ) -> None:
        self._scenario = scenario
        self._federation = scenario.federation
        self._agents = agents
        self._shape, self._classes = shape, classes
        self._places = {place.name: place for place in scenario.roster()}
        self._participation = participation
        self._engine = Engine(
            Recipe(
                architecture=scenario.model,
                shape=shape,
                classes=classes,
                training=scenario.training.model_copy(
                    update={"epochs": self._federation.local_epochs}
                ),
                compute=scenario.compute,
                seed=scenario.seed,
            )
        )
        self._layout = WeightLayout(self._engine.untrained)
        self._blocks: dict[tuple[str, bool], Block] = {}

    def train(self, requests: Sequence[Request]) -> list[Arrays]:
        """Return what each agent hands over, as named arrays: a model.

        An agent whose update attack needs others' updates hands over what it has trained; it is
        asked again (`craft`).
        """
        return [arrays for arrays, _ in self.train_told(requests)]

    def train_told(self, requests: Sequence[Request]) -> list[tuple[Arrays, int]]:
        """Return what `train` does, and for each the epoch in which it diverged; 0 if it did not.

        What is handed over then are the weights before that epoch.
        """
        # Requests of one call share the tensors of one start.
        starts = {id(request.start): request.start for request in requests}
        held = {key: self._engine.holding(start) for key, start in starts.items()}
        trained = self._engine.states_told(
            [self._training(request, held[id(request.start)]) for request in requests]
        )
        return [
            (to_arrays(self._first_turn(request, state)), diverged)
            for request, (state, diverged) in zip(requests, trained, strict=True)
        ]

    def craft(
        self, request: Request, own: State, seen: torch.Tensor, known: RuleKnowledge | None = None
    ) -> Arrays:
        """Return the model that an attacker hands over, now that it has seen others' updates.

        Args:
            request: As in its first turn.
            own: What it trained then.
            seen: The updates that it is granted, (k, d); may have no rows.
            known: What it is told of the rule, where it is granted to know it.

        Raises:
            ValueError: If the agent has no update attack at work in this round.
        """
        attack = self._attack(request)
        if attack is None:
            raise ValueError(f"expected an update attack of {request.agent!r} at work, got none")
        seat = view(self._scenario, self._layout, request, own, seen, known)
        return to_arrays(crafted(attack, seat, self._layout, own))

    def _first_turn(self, request: Request, trained: State) -> State:
        attack = self._attack(request)
        if attack is None or attack.grant != "own":
            return trained
        seat = view(self._scenario, self._layout, request, trained, None)
        return crafted(attack, seat, self._layout, trained)

    def _training(self, request: Request, start: Trained) -> Training:
        attack = self._attack(request)
        plan = LocalPlan() if attack is None else self._planned(attack, request, start)
        mu = self._federation.proximal
        return Training(
            Pool((self._rows(request, plan),), self._classes),
            start=start,
            epochs=plan.epochs or self._federation.local_epochs,
            steps=None if plan.epochs else self._federation.local_steps,
            rate=plan.rate,
            steering=plan.steering or (UpdateConstraint(pull=mu) if mu else None),
            purpose=order_of(f"round/{request.round}/{request.agent}", repeat_of(request.world)[0]),
        )

    def _planned(self, attack: UpdateAttack, request: Request, start: Trained) -> LocalPlan:
        local = self._local(request, start) if attack.needs_rows else None
        plan = attack.plan(before(self._scenario, self._layout, request, local))
        if plan.rows is not None:
            maker = f"{kind_of(type(attack))} of agent {request.agent!r}"
            plan.rows.checked(self._shape, self._classes, maker)
        return plan

    def _local(self, request: Request, start: Trained) -> LocalKnowledge:
        """Return what an attack is told of its own rows and of the broadcast model."""
        clean, own = (self._block(request.agent, poisoned) for poisoned in (False, True))
        training, federation = self._scenario.training, self._federation
        batches = -(-len(own.y) // training.batch_size)
        return LocalKnowledge(
            clean=LocalRows(clean.x, clean.y),
            contributed=LocalRows(own.x, own.y),
            classes=self._classes,
            share=1 / request.facts.boost,
            rate=training.optimizer.rate,
            steps=federation.local_steps or federation.local_epochs * batches,
            model=lambda: deepcopy(start.module),
        )

    def _rows(self, request: Request, plan: LocalPlan) -> Block:
        if plan.rows is not None:
            return Block(request.agent, 0, plan.rows.x, plan.rows.y)
        return self._block(request.agent, self._cheats(request) and not plan.honest)

    def _cheats(self, request: Request) -> bool:
        place = self._places[request.agent]
        return cheats(request.world, request.agent) and self._participation.cheats(
            place, request.round
        )

    def _attack(self, request: Request) -> UpdateAttack | None:
        return attack_of(self._places[request.agent]) if self._cheats(request) else None

    def _block(self, agent: str, poisoned: bool) -> Block:
        key = (agent, poisoned)
        if key not in self._blocks:
            share, play = self._agents.play(agent)
            x, y = (play.x, play.y) if poisoned else (share.x_train, share.y_train)
            self._blocks[key] = Block(agent, 0, x, y)
        return self._blocks[key]
