"""What the table tells update attackers, and when: exactly what the scenario grants them.

The table plays the world around the defender. In its name an attacker is told public facts of the
round; and, after the others have handed their updates over, those of them that its attack's
`knowledge` names. No other agent's update is ever sent to an agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from flwr.app import ArrayRecord

from clients.update_attacks.base import UpdateAttack
from learning.messages import CRAFT, UPDATE, RoundInfo
from learning.method import kind_of
from learning.weights import WeightLayout, to_arrays
from learning.wire import MEMORY, OWN, PREVIOUS, RECORD, SEEN, SHARES, to_record
from learning.worlds import cheats
from scenarios.participation import Participation
from scenarios.scenario import Scenario
from server.wire.updates import Side, State, UpdateAsk
from strategies.federated import DefencePipeline


class KnowledgeGrants:
    """The update attackers of one scenario, and what they may know.

    Args:
        scenario: What is played.
        rows: Registered rows of each agent.
        layout: What a model looks like.

    Attributes:
        listening: Whether some attacker is sent the model of the round before, too.
    """

    def __init__(self, scenario: Scenario, rows: Mapping[str, int], layout: WeightLayout) -> None:
        self._rows, self._layout = rows, layout
        self._participation = Participation(scenario)
        self._places = {place.name: place for place in scenario.roster()}
        attacks = (cast("UpdateAttack | None", p.group.update) for p in self._places.values())
        self.listening = any(attack is not None and attack.listens for attack in attacks)

    def first_ask(
        self,
        side: Side,
        agent: str,
        number: int,
        invited: Sequence[str],
        model: ArrayRecord,
        previous: ArrayRecord | None,
    ) -> UpdateAsk:
        """Return the request for local training, with what an attacker is told at that time."""
        attack = self._attack(side, agent, number)
        records = {RECORD: model}
        if attack is None:
            return UpdateAsk(side, agent, UPDATE, records)
        if attack.listens and previous is not None:
            records[PREVIOUS] = previous
        return UpdateAsk(
            side, agent, UPDATE, records, self._facts(side, agent, number, invited, attack)
        )

    def second_asks(
        self,
        first: Sequence[UpdateAsk],
        admitted: Mapping[Side, Mapping[str, State]],
        invited: Mapping[Side, Sequence[str]],
        number: int,
        memories: Mapping[Side, Mapping[str, torch.Tensor]] | None = None,
    ) -> list[UpdateAsk]:
        """Return the requests to attackers that may see others' updates, now handed over.

        Args:
            first: The first requests.
            admitted: What came of them.
            invited: Each side's agents of the round.
            number: The round.
            memories: What each side's rule has kept of the rounds before.
        """
        known = memories or {}
        return [
            self._second_ask(
                ask,
                attack,
                admitted[ask.side],
                invited[ask.side],
                number,
                known.get(ask.side, {}),
            )
            for ask in first
            if (attack := self._attack(ask.side, ask.agent, number)) is not None
            and attack.grant != "own"
            and ask.agent in admitted[ask.side]
        ]

    def _second_ask(
        self,
        ask: UpdateAsk,
        attack: UpdateAttack,
        admitted: Mapping[str, State],
        invited: Sequence[str],
        number: int,
        memory: Mapping[str, torch.Tensor],
    ) -> UpdateAsk:
        names = self._granted(attack, ask.side, ask.agent, admitted, number)
        start = self._layout.flat(_read(ask.records[RECORD]))
        rows = [self._layout.flat(admitted[name]) - start for name in names]
        seen = torch.stack(rows) if rows else start[None][:0]
        own = to_record(to_arrays(admitted[ask.agent]))
        records = {
            **ask.records,
            OWN: own,
            SEEN: to_record({SEEN: seen.numpy()}),
        }
        if attack.knows_rule:
            group = self._group(ask.side, ask.agent, invited, number)
            shares = {f"{at}/{name}": self._rows[name] for at, name in enumerate([*names, *group])}
            records[SHARES] = to_record({k: np.array(float(v)) for k, v in shares.items()})
            records[MEMORY] = to_record(to_arrays(memory))
        return UpdateAsk(ask.side, ask.agent, CRAFT, records, ask.info)

    def _granted(
        self,
        attack: UpdateAttack,
        side: Side,
        agent: str,
        admitted: Mapping[str, State],
        number: int,
    ) -> list[str]:
        """Return whose updates an attacker is sent, in scenario order."""
        if attack.grant == "honest":
            return [name for name in admitted if not self._places[name].group.malicious]
        return [name for name in self._group(side, agent, admitted, number) if name in admitted]

    def _facts(
        self, side: Side, agent: str, number: int, invited: Sequence[str], attack: UpdateAttack
    ) -> RoundInfo:
        group = self._group(side, agent, invited, number)
        return RoundInfo(
            participants=len(invited),
            accomplices=len(group),
            member=group.index(agent),
            boost=sum(self._rows[name] for name in invited) / self._rows[agent],
            defender=side[0] if attack.knows_rule else "",
        )

    def _group(
        self, side: Side, agent: str, among: Sequence[str] | Mapping[str, State], number: int
    ) -> list[str]:
        """Return the members of an agent's group that cheat in this round and world."""
        group = self._places[agent].group.name
        return [
            name
            for name in among
            if self._places[name].group.name == group
            and self._attack(side, name, number) is not None
        ]

    def _attack(self, side: Side, agent: str, number: int) -> UpdateAttack | None:
        """Return the attack that an agent plays in this round and world, if any."""
        place = self._places[agent]
        attack = cast("UpdateAttack | None", place.group.update)
        if attack is None or not cheats(side[1], agent):
            return None
        return attack if self._participation.cheats(place, number) else None


def asked_otherwise(scenario: Scenario) -> list[str]:
    """Return what the rules that attackers ask lack beside those that are played, line by line."""
    said = []
    for group in scenario.agents:
        attack = cast("UpdateAttack | None", group.update)
        if attack is None or not attack.knows_rule:
            continue
        for name, defences in scenario.defenders.items():
            line = DefencePipeline.of(defences)
            what = f"the update attack {kind_of(type(attack))} of {group.name}"
            if line.needs_own:
                said.append(
                    f"{what} gets no answer of the defender {name}: its rule needs the defender's "
                    "own update, which no attacker is granted; the attack plays its plain form"
                )
            elif line.draws:
                said.append(
                    f"{what} asks the rule of the defender {name} with draws of its own, as no "
                    "attacker is granted the defender's"
                )
            if line.augmentations:
                said.append(
                    f"{what} asks the rule of the defender {name} without the update that the "
                    "defender adds, which no attacker is granted"
                )
    return said


def without_effect(scenario: Scenario, layout: WeightLayout) -> list[str]:
    """Return a line for each group whose update attack does nothing to the scenario's model."""
    return [
        f"the update attack {kind_of(type(attack))} of {group.name} does nothing: the model "
        f"{kind_of(type(scenario.model))} has no buffers"
        for group in scenario.agents
        if (attack := cast("UpdateAttack | None", group.update)) is not None
        and attack.needs_buffers
        and not layout.buffers
    ]


def _read(record: ArrayRecord) -> State:
    return {name: torch.from_numpy(array.numpy()) for name, array in record.items()}
