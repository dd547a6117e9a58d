"""The pooled game: agents contribute data once, every defender faces the same contributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from flwr.serverapp import Grid

from learning.data.partitioning import Partitioning
from learning.training.engine.engine import Engine
from learning.training.engine.model_cache import ModelCache
from learning.training.job import TrainingRequests
from learning.training.repeats import trained_again
from learning.worlds import ATTACKED, repeat_of
from scenarios.scenario import Scenario
from server.events import Event, Observer
from server.games.checkpointer import Checkpointer
from server.games.divergence import told_of_defenders
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
    tell_epochs,
)
from server.games.session import GameSession, lay_table
from server.referee.referee import Referee
from server.referee.registry import averaged_epochs
from server.wire.exchange import Exchange, seat_agents
from strategies.base import Defence
from strategies.pipeline import Outcome, defend
from strategies.together import play_together


def play_pooled(
    scenario: Scenario,
    dealt: Partitioning,
    grid: Grid,
    observe: Observer,
    keeper: Checkpointer | None = None,
    known: ModelCache | None = None,
) -> Game:
    """Play a pooled game over a grid.

    Args:
        scenario: What to play.
        dealt: The dealt data; only the defender's share, the registered sizes and the referee's
            test set are used here.
        grid: The transport to the agents.
        observe: Told of each step.
        keeper: Keeps what the agents hand over; training and scoring begin anew in a game that
            goes on, and give the same.
        known: Models that other games have trained; the scores are the same without.

    Raises:
        ValueError: If nothing is left to train on.
    """
    clock = Clock()
    places = scenario.roster()
    nodes = seat_agents(grid, [place.name for place in places], scenario.joining)
    keeper = (keeper or Checkpointer()).of("pooled")
    table = lay_table(Exchange(grid, nodes, scenario.deadline), dealt, places, observe, keeper)
    clock.lap("contributions")
    if (resumed := keeper.resumed(0)) is not None:
        observe(resumed)
    observe(admission_event(table, clock.seconds["contributions"]))

    if not len(table.pool):
        raise ValueError(_nothing_left(table))

    averaged = averaged_epochs(scenario.referee.scores, table.roster)
    engine = Engine(recipe_of(scenario, dealt, averaged), tell_epochs(observe), known=known)
    referee = referee_of(scenario, dealt, table, engine.device)
    outcomes = _play_defenders(scenario, dealt, table, referee, engine)
    clock.lap("training")
    facts = {"trainings": engine.trainings, "seconds": clock.seconds["training"]}
    observe(Event("trained", engine.trainings, engine.trainings, facts=facts))

    scores = score_all(scenario, referee, outcomes, observe)
    clock.lap("scoring")
    notes = (*told_of_defenders(outcomes), *engine.notes)
    result = result_of(scenario, dealt, table, scores, engine.trainings, clock.seconds, notes=notes)
    attacked = {name: outcomes[(name, ATTACKED)] for name in scenario.defenders}
    return Game(scenario, result, attacked, table)


def _play_defenders(
    scenario: Scenario, dealt: Partitioning, table: GameSession, referee: Referee, engine: Engine
) -> dict[Key, Outcome]:
    defender = defender_of(scenario, dealt, table, engine.device)
    worlds = referee.worlds(table.pool)
    plays: dict[Key, TrainingRequests[Outcome]] = {
        (name, world): _trained(
            defend(cast(Sequence[Defence], defences), pool, defender, asking(world, table)),
            world,
            engine,
        )
        for name, defences in scenario.defenders.items()
        for world, pool in worlds.items()
        if scenario.plays(name, world)
    }
    with torch.random.fork_rng(devices=[]):  # a method that forgot its generator harms nobody
        return play_together(plays, engine.train)


def _trained(
    play: TrainingRequests[Outcome], world: str, engine: Engine
) -> TrainingRequests[Outcome]:
    """Return the play as a world trains it: a repeat has a start and an order of its own."""
    repeat, _ = repeat_of(world)
    return trained_again(play, engine.initial(repeat), repeat) if repeat else play


def _nothing_left(table: GameSession) -> str:
    first = table.quarantined[0]
    return (
        f"expected rows to train on, but every contribution was quarantined and the defender holds "
        f"none (defender_share 0); {first.agent}: {first.message}"
    )
