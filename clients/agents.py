"""The simulated agents of one scenario: each draws its share and plays its behaviour.

In a simulation all parties' data come from one data set, which is dealt once in each process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from clients.data_attacks.base import (
    AgentContext,
    Behaviour,
    Contribution,
    Grant,
    Knowledge,
    Mate,
    Share,
)
from clients.data_attacks.private import Private
from learning.data.partitioning import (
    Partitioning,
    contributed_rows,
    deal,
    reference_share,
    split_share,
)
from learning.data.sketch import Sketch
from learning.pool import Floats, Ints
from learning.seeds import derived_seed
from learning.training.recipe import Recipe
from scenarios.fit import misfits
from scenarios.loader import misplaced
from scenarios.scenario import Scenario
from scenarios.schema import AgentSpec
from scenarios.text.errors import ScenarioError


def deal_scenario(scenario: Scenario) -> Partitioning:
    """Deal the scenario's data to defender, simulated agents and referee.

    A private agent has rows of its own; it is registered with the size of its share.

    Raises:
        DataError: If the data cannot be read.
        ValueError: If there are too few rows for the agents.
        ScenarioError: If the scenario asks for what does not fit the data, now that they are known.
    """
    dealt = deal(
        scenario.data,
        agents=[place.name for place in scenario.roster()],
        private={
            place.name: place.group.behaviour.rows
            for place in scenario.roster()
            if isinstance(place.group.behaviour, Private)
        },
        defender_share=scenario.defender_share,
        partition=scenario.partition,
        run_time_share=scenario.run_time_share,
        seed=scenario.seed,
    )
    known = Sketch(shape=dealt.data.shape, classes=dealt.data.classes)
    if wrong := list(misfits(scenario, known)):
        raise ScenarioError([misplaced(problem) for problem in wrong])
    return dealt


class Agents:
    """The agents of a scenario, played one at a time.

    Keeps plays within a memory limit, so that the messages of one agent do not play it again.

    Args:
        scenario: What is played.
        dealt: The dealt data, where this process already has it.
        keep_bytes: Memory for plays kept; the last one is kept whatever its size.
    """

    def __init__(
        self, scenario: Scenario, dealt: Partitioning | None = None, keep_bytes: int = 2**30
    ) -> None:
        self._scenario = scenario
        self._places = {place.name: place for place in scenario.roster()}
        self._deal = dealt
        self._keep_bytes = keep_bytes
        self._kept_bytes = 0
        self._played: OrderedDict[str, tuple[Share, Contribution]] = OrderedDict()
        self._crafted: dict[tuple[str, str], dict[str, tuple[Floats, Ints]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All agents in scenario order."""
        return tuple(self._places)

    def play(self, name: str) -> tuple[Share, Contribution]:
        """Return an agent's share and what it did with it.

        Raises:
            KeyError: If the scenario has no such agent.
            ValueError: If its behaviour cannot be played; the message names the agent.
        """
        if name not in self._played:
            self._played[name] = self._play(self._places[name])
            self._kept_bytes += _size(self._played[name])
            while self._kept_bytes > self._keep_bytes and len(self._played) > 1:
                self._kept_bytes -= _size(self._played.popitem(last=False)[1])
        self._played.move_to_end(name)
        return self._played[name]

    def _play(self, place: AgentSpec) -> tuple[Share, Contribution]:
        share = self._share(place.name)
        behaviour = cast(Behaviour, place.group.behaviour)
        try:
            seat = replace(self._seat(place), known=self._known(place, behaviour.grant))
            return share, behaviour.play(share, seat)
        except ValueError as error:
            raise ValueError(f"agent {place.name!r} cannot play: {error}") from error

    def _share(self, name: str) -> Share:
        dealt = self.dealt()
        train, run = split_share(
            dealt.shares[name], self._scenario.run_time_share, self._scenario.seed, name
        )
        return Share(dealt.x[train], dealt.y[train], dealt.x[run], dealt.y[run])

    def _seat(self, place: AgentSpec) -> AgentContext:
        scenario, dealt = self._scenario, self.dealt()
        return AgentContext(
            name=place.name,
            group=place.group.name,
            index=place.index,
            count=place.group.count,
            seed=scenario.seed,
            classes=dealt.data.classes,
            reference_rows=self._reference_rows(len(dealt.y)),
            rounding=scenario.poison_count.rounding,
        )

    def _known(self, place: AgentSpec, grant: Grant | None) -> Knowledge | None:
        """Return what a behaviour is granted beside its share; None where it asks for nothing."""
        if grant is None:
            return None
        mates = [p for p in self._places.values() if p.group.name == place.group.name]
        mates = mates if grant.group else []
        x, y = self._granted([mate.name for mate in mates] or [place.name], grant)
        # What an agent has crafted alone its group is not granted either.
        crafters = (place.group.name, "" if grant.group else place.name)
        return Knowledge(
            recipe=self._recipe(mates[0].name if mates else place.name),
            pool_rows=self._pool_rows(place.name),
            x=x,
            y=y,
            mates=tuple(
                Mate(self._seat(mate), share.x_train, share.y_train)
                for mate in mates
                for share in [self._share(mate.name)]
            ),
            crafted=self._crafted.setdefault(crafters, {}),
        )

    def _granted(self, but: Sequence[str], grant: Grant) -> tuple[Floats, Ints]:
        """Return the clean rows of the other parties, where the pool is granted."""
        dealt, rows = self.dealt(), list[Ints]()
        if grant.pool:
            rows = [dealt.defender] + [
                split_share(share, self._scenario.run_time_share, self._scenario.seed, name)[0]
                for name, share in dealt.shares.items()
                if name not in but and not isinstance(self._places[name].group.behaviour, Private)
            ]
        at = np.concatenate([*rows, np.zeros(0, np.int64)])
        return dealt.x[at], dealt.y[at]

    def _recipe(self, crafter: str) -> Recipe:
        """Return how the defender trains, with a seed of the crafter's own, on this machine."""
        scenario, data = self._scenario, self.dealt().data
        return Recipe(
            architecture=scenario.model,
            shape=data.shape,
            classes=data.classes,
            training=scenario.training,
            compute=scenario.compute,
            seed=derived_seed(scenario.seed, f"surrogate/{crafter}"),
        )

    def _pool_rows(self, name: str) -> int:
        """Return how many rows are registered; a private agent takes all to have as many as it."""
        dealt = self.dealt()
        if len(dealt.shares) < len(self._places):
            own = contributed_rows(len(dealt.shares[name]), dealt.run_time_share)
            return own * len(self._places)
        return len(dealt.defender) + sum(count for _, count in dealt.registered.values())

    def _reference_rows(self, dealt: int) -> float | None:
        """Return the rows that a poison rate refers to; None: those that the agent contributes."""
        count = self._scenario.poison_count
        if count.reference_agents is None:
            return None
        total = dealt if count.reference_rows is None else count.reference_rows
        return reference_share(total, self._scenario.defender_share, count.reference_agents)

    def dealt(self) -> Partitioning:
        """Return the dealt data; dealt once in this process."""
        if self._deal is None:
            self._deal = deal_scenario(self._scenario)
        return self._deal


def _size(played: tuple[Share, Contribution]) -> int:
    share, play = played
    rows = (share.x_train, share.x_run, play.x, play.x_triggered, play.x_part)
    return sum(x.nbytes for x in rows if x is not None)
