"""The federated game: agents contribute model updates, round after round.

Every defender plays a game of its own in each world (attacked, and the referee's control games);
all of them go through a round together, so that a runtime can train their agents as one cohort.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from torch import Tensor

from learning.data.partitioning import Partitioning
from learning.pool import Pool
from learning.training.engine.cohorts import one_by_one
from learning.training.engine.engine import Engine
from learning.training.job import Trained, Training, UpdateConstraint
from learning.training.repeats import order_of
from learning.weights import WeightLayout, to_arrays
from learning.wire import to_record
from learning.worlds import ALONE, ATTACKED, ATTACKER_FREE, repeat_of, repeated
from scenarios.participation import Participation
from scenarios.scenario import Scenario
from server.errors import RunFolderError
from server.events import Event, Observer
from server.games.checkpointer import Checkpointer
from server.games.divergence import told_divergence, with_round
from server.games.federated_state import FederationState, SideState, misfit
from server.games.game import (
    Clock,
    Game,
    Key,
    admission_event,
    asking,
    defender_of,
    recipe_of,
    referee_of,
    result_of,
    score_all,
)
from server.games.knowledge import KnowledgeGrants, asked_otherwise, without_effect
from server.games.session import GameSession, lay_federated_table, own_block
from server.referee.history import attack_history
from server.referee.referee import PlayedRounds, Referee
from server.referee.results import Quarantine, RoundScores
from server.referee.scoring.detection import CheatingAgents, round_detection
from server.wire.exchange import Exchange, seat_agents
from server.wire.updates import Side, State, collect_updates
from strategies.aggregation.base import Context
from strategies.aggregation.parts.buffers import Buffers
from strategies.aggregation.updates import Updates
from strategies.base import Defender, Predictor
from strategies.federated import SHARED, DefencePipeline, RoundResult, ServerState, play_round
from strategies.pipeline import Outcome


def play_federated(
    scenario: Scenario,
    dealt: Partitioning,
    grid: Grid,
    observe: Observer,
    keeper: Checkpointer | None = None,
) -> Game:
    """Play a federated game over a grid.

    Args:
        scenario: What to play.
        dealt: The dealt data; only the defender's share, the registered sizes and the referee's
            test set are used here.
        grid: The transport to the agents.
        observe: Told of each step.
        keeper: Keeps what the agents hand over and the game after each round, and has it where
            the game goes on.

    Raises:
        RunFolderError: If what was kept is not of this game, or cannot be written.
    """
    clock = Clock()
    keeper = (keeper or Checkpointer()).of("federated")
    places = scenario.roster()
    nodes = seat_agents(grid, [place.name for place in places], scenario.joining)
    exchange = Exchange(grid, nodes, scenario.deadline)
    table = lay_federated_table(exchange, dealt, places, observe, keeper)
    clock.lap("run-time sets")

    engine = Engine(recipe_of(scenario, dealt))
    referee = referee_of(scenario, dealt, table, engine.device)
    play = _FederatedLoop(scenario, dealt, table, exchange, engine, referee, observe)
    progress = play.begin(keeper)
    clock.add(progress.seconds)
    observe(admission_event(table, clock.seconds["run-time sets"]))
    rounds = scenario.federation.rounds
    while progress.round < rounds:
        progress = play.round(progress)
        clock.lap("rounds")
        progress = replace(progress, seconds=dict(clock.seconds))
        keeper.keep(progress, last=progress.round == rounds)

    outcomes = play.outcomes(progress)
    history = attack_history(scenario, {agent.name: agent.rows for agent in table.roster})
    played = {name: PlayedRounds(told, history) for name, told in progress.told.items()}
    scores = score_all(scenario, referee, outcomes, observe, played)
    clock.lap("scoring")
    table = replace(table, quarantined=(*table.quarantined, *progress.quarantined))
    # The agents' engines are theirs, but what they train is the same.
    alone = one_by_one(scenario.model, scenario.compute, engine.initial().module)
    idle = (*without_effect(scenario, WeightLayout(engine.untrained)), *asked_otherwise(scenario))
    far = told_divergence(progress.diverged, scenario)
    notes = tuple(dict.fromkeys((*([alone] if alone else []), *idle, *far, *progress.notes)))
    result = result_of(
        scenario, dealt, table, scores, progress.trainings, clock.seconds, progress.told, notes
    )
    attacked = {name: outcomes[(name, ATTACKED)] for name in scenario.defenders}
    return Game(scenario, result, attacked, table)


@dataclass(frozen=True, eq=False)
class _OneRound:
    """What the agents handed over in a round, by side and agent, in scenario order."""

    admitted: Mapping[Side, Mapping[str, State]]
    quarantined: tuple[Quarantine, ...]
    trainings: int
    diverged: Mapping[str, int]


class _FederatedLoop:
    """All defenders in all worlds: what stays the same from round to round."""

    def __init__(
        self,
        scenario: Scenario,
        dealt: Partitioning,
        table: GameSession,
        exchange: Exchange,
        engine: Engine,
        referee: Referee,
        observe: Observer,
    ) -> None:
        self._scenario, self._table, self._exchange = scenario, table, exchange
        self._engine, self._referee, self._observe = engine, referee, observe
        self._rows = {name: rows for name, (_, rows) in dealt.registered.items()}
        self._defender = defender_of(scenario, dealt, table, engine.device)
        self._own = Pool((own_block(dealt),), dealt.data.classes)
        self._layout = WeightLayout(engine.untrained)
        self._participation = Participation(scenario)
        self._grants = KnowledgeGrants(scenario, self._rows, self._layout)
        self._lines = {
            name: DefencePipeline.of(defences) for name, defences in scenario.defenders.items()
        }
        # The same rows in every round and world: augmented once.
        augmented = {
            name: _augmented(line, self._own, self._defender) for name, line in self._lines.items()
        }
        self._trained_on = {name: pool for name, (pool, _) in augmented.items()}
        self._remarks = {name: remarks for name, (_, remarks) in augmented.items()}
        self._left_out: dict[Side, tuple[str, ...]] = {
            (name, world, part): left_out
            for name, line in self._lines.items()
            for world in self._worlds(name)
            for part, left_out in self._parts(line, world).items()
        }
        self._cheating = CheatingAgents(scenario)

    def begin(self, keeper: Checkpointer) -> FederationState:
        """Return the game as it was kept, or before its first round."""
        start, total = self.start(), self._scenario.federation.rounds
        kept = keeper.newest()
        reason = None if kept is None else misfit(kept, start, total)
        if reason is not None:
            raise RunFolderError(f"the checkpoint does not fit the scenario: {reason}")
        resumed = keeper.resumed(total, kept)
        if resumed is not None:
            self._observe(resumed)
        return start if kept is None else kept

    def start(self) -> FederationState:
        """Return the game before its first round."""
        standings = {
            repeat: self._standing(repeat) for repeat in range(self._scenario.referee.repeats)
        }
        return FederationState(
            round=0,
            sides={key: SideState(standings[repeat_of(key[1])[0]]) for key in self._left_out},
            told=dict.fromkeys(self._scenario.defenders, ()),
        )

    def _standing(self, repeat: int) -> ServerState:
        """Return where a federation begins; standings are on the CPU, where updates arrive."""
        state = self._engine.initial(repeat).module.state_dict()
        fresh = {name: value.cpu() for name, value in state.items()}
        return ServerState(self._layout.flat(fresh), self._layout.rest(fresh))

    def _parts(self, line: DefencePipeline, world: str) -> dict[str, tuple[str, ...]]:
        """Return the federations that answer somebody in this world."""
        names = [record.name for record in self._table.roster]
        asked = set(asking(world, self._table))
        return {
            part: left_out
            for part, left_out in line.parts(names, self._defender).items()
            if part == SHARED or asked.intersection(left_out)
        }

    def _worlds(self, defender: str) -> list[str]:
        spec = self._scenario.referee
        free = [ATTACKER_FREE] if spec.attacker_free else []
        worlds = (ATTACKED, *free, *(ALONE + name for name in self._referee.sample_alone()))
        return [
            world
            for repeat in range(spec.repeats)
            for played in worlds
            if self._scenario.plays(defender, world := repeated(played, repeat))
        ]

    def round(self, before: FederationState) -> FederationState:
        """Play one round of every side; return the game after it."""
        number, sides = before.round + 1, before.sides
        sampled = self._participation.of(number)
        invited = {
            key: tuple(name for name in sampled if name not in self._left_out[key]) for key in sides
        }
        models = {key: self._state(side.standing) for key, side in sides.items()}
        began = time.monotonic()
        got = self._collect(before, models, invited, number)
        for key in sides:
            if self._below_quorum(got.admitted[key], len(invited[key])):
                enough = self._scenario.federation.enough(len(invited[key]))
                self._exchange.wait_for(invited[key], enough, began)
        own = self._own_models(models, number)
        played = {
            key: self._aggregate(
                key, side.standing, number, len(invited[key]), got.admitted[key], own.get(key)
            )
            for key, side in sides.items()
        }
        after = {
            key: SideState(result.standing, models[key] if self._grants.listening else None)
            for key, result in played.items()
        }
        return FederationState(
            round=number,
            sides=after,
            told=self._tell(before, after, sampled, got.admitted, played),
            quarantined=(*before.quarantined, *got.quarantined),
            trainings=before.trainings + got.trainings + len(own),
            notes=tuple(dict.fromkeys((*before.notes, *self._engine.notes))),
            diverged=with_round(before.diverged, got.diverged, number),
        )

    def _collect(
        self,
        before: FederationState,
        models: Mapping[Side, State],
        invited: Mapping[Side, Sequence[str]],
        number: int,
    ) -> _OneRound:
        """Return the updates that are admitted, by side and agent, in scenario order."""
        records = {key: _record(state) for key, state in models.items()}
        previous = {
            key: None if side.previous is None else _record(side.previous)
            for key, side in before.sides.items()
        }
        first = [
            self._grants.first_ask(key, name, number, invited[key], records[key], previous[key])
            for key in before.sides
            for name in invited[key]
        ]
        trained = collect_updates(self._exchange, first, number, self._layout)
        memories = {key: side.standing.rule for key, side in before.sides.items()}
        second = self._grants.second_asks(first, trained.admitted, invited, number, memories)
        crafted = collect_updates(self._exchange, second, number, self._layout)
        admitted = {key: dict(trained.admitted.get(key, {})) for key in before.sides}
        for ask in second:
            # What such an agent has trained was for its accomplices alone.
            late = crafted.admitted[ask.side].get(ask.agent)
            if late is None:
                del admitted[ask.side][ask.agent]
            else:
                admitted[ask.side][ask.agent] = late
        return _OneRound(
            admitted,
            (*trained.quarantined, *crafted.quarantined),
            sum(len(states) for states in trained.admitted.values()),
            trained.diverged,
        )

    def _own_models(self, models: Mapping[Side, State], number: int) -> dict[Side, State]:
        """Train the defender's own, augmented rows from each side's model, as agents do theirs."""
        federation = self._scenario.federation
        drawn = UpdateConstraint(pull=federation.proximal) if federation.proximal else None
        jobs = {
            key: Training(
                self._trained_on[key[0]],
                start=self._engine.holding(models[key]),
                epochs=federation.local_epochs,
                steps=federation.local_steps,
                steering=drawn,
                purpose=order_of(f"round/{number}/defender", repeat_of(key[1])[0]),
            )
            for key in models
            if self._lines[key[0]].augmentations or self._lines[key[0]].needs_own
        }
        trained = self._engine.train(list(jobs.values()))
        self._engine.forget()
        return {k: m.module.state_dict() for k, m in zip(jobs, trained, strict=True)}

    def _aggregate(
        self,
        key: Side,
        standing: ServerState,
        number: int,
        invited: int,
        admitted: Mapping[str, State],
        own: State | None,
    ) -> RoundResult:
        line = self._lines[key[0]]
        if self._below_quorum(admitted, invited):
            note = f"skipped: {len(admitted)} of {invited} updates admitted, below the quorum"
            return RoundResult(standing, None, note)
        base = standing.weights.cpu()
        states = dict(admitted)
        weights = [float(self._rows[name]) for name in states]
        if own is not None and line.augmentations:
            states["defender"] = {name: value.cpu() for name, value in own.items()}
            weights.append(float(len(self._own)))
        matrix = torch.stack([self._layout.flat(state) - base for state in states.values()])
        updates = Updates(matrix, torch.tensor(weights, dtype=torch.float64), tuple(states), number)
        mine = None
        if own is not None and line.needs_own:
            mine = self._layout.flat({n: v.cpu() for n, v in own.items()}) - base
        context = Context(
            seed=self._defender.seed,
            memory=int(self._scenario.compute.memory_gib * 2**30),
            own=mine,
            head=self._layout.head,
        )
        buffers = Buffers(
            updates.agents, self._layout.stacked(list(states.values())), self._layout.variances
        )
        spec = self._scenario.federation
        return play_round(
            line, standing, updates, buffers, context, spec.server_optimizer, spec.fallback
        )

    def _below_quorum(self, admitted: Mapping[str, State], invited: int) -> bool:
        return len(admitted) < self._scenario.federation.enough(invited)

    def _tell(
        self,
        before: FederationState,
        after: Mapping[Side, SideState],
        sampled: tuple[str, ...],
        admitted: Mapping[Side, Mapping[str, State]],
        played: Mapping[Side, RoundResult],
    ) -> dict[str, tuple[RoundScores, ...]]:
        federation, number = self._scenario.federation, before.round + 1
        told = dict(before.told)
        last = number == federation.rounds
        evaluate = last or number % federation.evaluate_every == 0
        for name in self._scenario.defenders:
            key = (name, ATTACKED, SHARED)
            result, names = played[key], tuple(admitted[key])
            selected = result.aggregate.selected if result.aggregate is not None else None
            taken = (
                None
                if selected is None
                else tuple(n for n, t in zip(names, selected.tolist(), strict=False) if t)
            )
            score = self._referee.glance(self._outcome(after, name, ATTACKED)) if evaluate else None
            entry = RoundScores(
                round=number,
                sampled=sampled,
                admitted=names,
                skipped=result.aggregate is None,
                selected=taken,
                clean_accuracy=None if score is None else score.clean_accuracy,
                asr={} if score is None else score.asr,
                note="; ".join(filter(None, (result.note, score.note if score else ""))),
                fallback=result.fallback,
                detection=round_detection(
                    names, self._cheating.among(names, number), taken, result.weights
                ),
                more={} if score is None else score.more,
            )
            told[name] = (*told[name], entry)
            facts = {"defender": name, **entry.model_dump(exclude={"sampled", "asr"})}
            self._observe(Event("round", number, federation.rounds, name, facts))
        return told

    def outcomes(self, progress: FederationState) -> dict[Key, Outcome]:
        """Return what every defender ended with in each world."""
        return {
            (name, world): self._outcome(progress.sides, name, world)
            for name in self._scenario.defenders
            for world in self._worlds(name)
        }

    def _outcome(self, sides: Mapping[Side, SideState], name: str, world: str) -> Outcome:
        models = {
            key[2]: (self._engine.holding(self._state(side.standing)),)
            for key, side in sides.items()
            if key[:2] == (name, world)
        }
        by_agent: dict[str, tuple[Trained, ...]] = {
            agent: models[part] for part in models for agent in self._left_out[(name, world, part)]
        }
        predictor = Predictor(
            models[SHARED], by_agent, work=float(len(models)), notes=self._remarks[name]
        )
        return Outcome(predictor, (), self._own)

    def _state(self, standing: ServerState) -> State:
        return self._layout.unflat(standing.weights, standing.buffers)


def _augmented(
    line: DefencePipeline, pool: Pool, defender: Defender
) -> tuple[Pool, tuple[str, ...]]:
    """Return the defender's rows after its augmentations, and what these have to say."""
    remarks: list[str] = []
    for augmentation in line.augmentations:
        steps = augmentation.augment(pool, defender)
        try:
            next(steps)
        except StopIteration as end:
            before, pool = pool, end.value
        else:
            raise ValueError("an augmentation that trains models cannot be played in rounds")
        remarks += augmentation.remarks(before, pool)
    return pool, tuple(remarks)


def _record(state: Mapping[str, Tensor]) -> ArrayRecord:
    return to_record(to_arrays(state))
