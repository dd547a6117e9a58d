"""The pooled game: agents contribute data once, every defender faces the same contributions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from flwr.serverapp import Grid

from learning.data.deal import Deal
from learning.method import kind_of
from learning.seeds import derived_seed
from learning.training.engine import Engine, EpochEvent, Recipe
from learning.training.job import Steps
from scenarios.schema import Scenario
from server.events import Event, Observer
from server.exchange import Exchange, seat_agents
from server.referee import Referee
from server.results import DEFINITIONS, DefenderScores, GameResult
from server.table import Table, lay_table
from server.verdict import verdict
from strategies.base import Defence, Defender
from strategies.pipeline import Outcome, defend
from strategies.together import play_together

ATTACKED = "attacked"
Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Game:
    """A game that has been played.

    Attributes:
        scenario: What was played.
        result: The scores.
        outcomes: What each defender ended with in the attacked game.
        table: What the agents handed over.
    """

    scenario: Scenario
    result: GameResult
    outcomes: Mapping[str, Outcome]
    table: Table


def play_pooled(scenario: Scenario, dealt: Deal, grid: Grid, observe: Observer) -> Game:
    """Play a pooled game over a grid.

    Args:
        scenario: What to play.
        dealt: The dealt data; only the defender's share, the registered sizes and the referee's
            test set are used here.
        grid: The transport to the agents.
        observe: Told of each step.

    Raises:
        ValueError: If nothing is left to train on.
    """
    clock = _Clock()
    places = scenario.roster()
    names = [place.name for place in places]
    nodes = seat_agents(grid, names, scenario.deadline)
    table = lay_table(Exchange(grid, nodes, scenario.deadline), dealt, places, observe)
    clock.lap("contributions")
    observe(_admission(table, clock.seconds["contributions"]))

    engine = Engine(_recipe(scenario, dealt), _epochs(observe))
    referee = Referee(table.sealed, table.roster, scenario.referee, scenario.seed, engine.device)
    outcomes = _play_defenders(scenario, dealt, table, referee, engine)
    clock.lap("training")
    facts = {"trainings": engine.trainings, "seconds": clock.seconds["training"]}
    observe(Event("trained", engine.trainings, engine.trainings, facts=facts))

    scores: dict[str, DefenderScores] = {}
    for done, (name, defences) in enumerate(scenario.defenders.items(), 1):
        own = {world: outcomes[(name, world)] for played, world in outcomes if played == name}
        scores[name] = referee.score(tuple(kind_of(type(d)) for d in defences), own)
        observe(Event("scoring", done, len(scenario.defenders), name))
    clock.lap("scoring")

    result = GameResult(
        scenario=scenario.name,
        scenario_hash=scenario.digest(),
        game="pooled",
        seed=scenario.seed,
        class_names=dealt.data.class_names,
        rows={
            "defender": len(dealt.defender),
            "agents": len(table.pool) - len(dealt.defender),
            "test": len(dealt.test_y),
        },
        roster=table.roster,
        quarantined=table.quarantined,
        defenders=scores,
        verdict=verdict(scores, table.roster, table.quarantined),
        definitions=DEFINITIONS,
        trainings=engine.trainings,
        seconds=clock.seconds,
    )
    attacked = {name: outcomes[(name, ATTACKED)] for name in scenario.defenders}
    return Game(scenario, result, attacked, table)


def _admission(table: Table, seconds: float) -> Event:
    facts = {
        "admitted": [record.name for record in table.roster if record.admitted],
        "quarantined": [entry.model_dump() for entry in table.quarantined],
        "rows": len(table.pool),
        "seconds": seconds,
    }
    admitted = len(facts["admitted"])  # type: ignore[arg-type]
    note = f"{admitted} of {len(table.roster)} agents admitted"
    return Event("admission", admitted, len(table.roster), note, facts)


def _recipe(scenario: Scenario, dealt: Deal) -> Recipe:
    return Recipe(
        architecture=scenario.model,
        shape=dealt.data.shape,
        classes=dealt.data.classes,
        training=scenario.training,
        compute=scenario.compute,
        seed=scenario.seed,
    )


def _play_defenders(
    scenario: Scenario, dealt: Deal, table: Table, referee: Referee, engine: Engine
) -> dict[Key, Outcome]:
    defender = Defender(
        seed=derived_seed(scenario.seed, "defender"),
        shape=dealt.data.shape,
        classes=dealt.data.classes,
        agents=tuple(record.name for record in table.roster if record.admitted),
        epochs=scenario.training.epochs,
        device=engine.device,
    )
    worlds = referee.worlds(table.pool)
    plays: dict[Key, Steps[Outcome]] = {
        (name, world): defend(
            cast(Sequence[Defence], defences), pool, defender, _asking(world, table)
        )
        for name, defences in scenario.defenders.items()
        for world, pool in worlds.items()
    }
    with torch.random.fork_rng(devices=[]):  # a method that forgot its generator harms nobody
        return play_together(plays, engine.train)


def _asking(world: str, table: Table) -> tuple[str, ...]:
    """Return who will ask for predictions in a world: scores need no other models."""
    if world == ATTACKED:
        return tuple(record.name for record in table.roster if record.admitted)
    if world.startswith("alone/"):
        return (world.removeprefix("alone/"),)
    return tuple(record.name for record in table.roster if record.admitted and record.malicious)


def _epochs(observe: Observer) -> Callable[[EpochEvent], None]:
    def on_epoch(event: EpochEvent) -> None:
        note = f"{event.asked} models, loss {event.train_loss:.3f}"
        observe(Event("training", int(100 * event.share), 100, note))

    return on_epoch


class _Clock:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = round(now - self._at, 3)
        self._at = now
