"""The simulated agents of one scenario: each draws its share and plays its behaviour.

In a simulation all parties' data come from one data set, which is dealt once in each process.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from clients.data_attacks.base import AgentContext, Behaviour, Contribution, Share
from clients.data_attacks.private import Private
from learning.data.partitioning import Partitioning, deal, reference_share, split_share
from learning.data.sketch import Sketch
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
            return share, behaviour.play(share, self._seat(place))
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
