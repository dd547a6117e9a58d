"""What both games share: what is known at the table, how it is scored, what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from learning.data.partitioning import Partitioning
from learning.method import kind_of
from learning.seeds import derived_seed
from learning.training.engine.engine import EpochEvent, Recipe
from learning.worlds import ALONE, ATTACKED, repeat_of
from scenarios.scenario import Scenario
from server.events import Event, Observer
from server.games.idle import idle
from server.games.session import GameSession
from server.referee.referee import PlayedRounds, Referee
from server.referee.registry import definitions, told, with_damage
from server.referee.results import DefenderScores, GameResult, RoundScores
from server.referee.scoring.beside import Scored, beside
from server.referee.scoring.triggers import with_distances
from server.referee.verdict import verdict
from strategies.base import Defender, Indexing
from strategies.pipeline import Outcome

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
    table: GameSession


class Clock:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Book the time since the last lap to a phase, on top of what is booked."""
        now = time.perf_counter()
        self.add({phase: now - self._at})
        self._at = now

    def add(self, seconds: Mapping[str, float]) -> None:
        """Book time that was spent elsewhere, as by a process that was cut off."""
        for phase, some in seconds.items():
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + some, 3)


def recipe_of(scenario: Scenario, dealt: Partitioning, averaged: int = 0) -> Recipe:
    """Return how the game's models are trained.

    Args:
        scenario: What is played.
        dealt: Its data.
        averaged: Over how many of the last epochs the mean of their weights is taken, beside.
    """
    return Recipe(
        architecture=scenario.model,
        shape=dealt.data.shape,
        classes=dealt.data.classes,
        training=scenario.training,
        compute=scenario.compute,
        seed=scenario.seed,
        averaged=averaged,
    )


def defender_of(
    scenario: Scenario, dealt: Partitioning, table: GameSession, device: torch.device
) -> Defender:
    """Return what the defenders know besides contributions."""
    return Defender(
        seed=derived_seed(scenario.seed, "defender"),
        shape=dealt.data.shape,
        classes=dealt.data.classes,
        agents=tuple(record.name for record in table.roster if record.admitted),
        epochs=scenario.training.epochs,
        device=device,
        memory_gib=scenario.compute.memory_gib,
    )


def referee_of(
    scenario: Scenario, dealt: Partitioning, table: GameSession, device: torch.device
) -> Referee:
    """Return the referee of a game whose agents have revealed what they keep."""
    agents = sum(record.admitted for record in table.roster)
    attacked = {name: _models(defences, agents) for name, defences in scenario.defenders.items()}
    alone = sum(scenario.plays(name, ALONE) for name in scenario.defenders)
    return Referee(
        table.sealed,
        table.roster,
        scenario.referee,
        scenario.seed,
        device,
        affordable=sum(attacked.values()) // max(1, alone),
        class_names=dealt.data.class_names,
    )


def _models(defences: Sequence[object], agents: int) -> int:
    """Return how many models a defender ends with in the attacked game."""
    return sum(one.models(agents) for one in defences if isinstance(one, Indexing)) or 1


def asking(world: str, table: GameSession) -> tuple[str, ...]:
    """Return who will ask for predictions in a world: scores need no other models."""
    _, played = repeat_of(world)
    if played == ATTACKED:
        return tuple(record.name for record in table.roster if record.admitted)
    if played.startswith(ALONE):
        return (played.removeprefix(ALONE),)
    return tuple(record.name for record in table.roster if record.admitted and record.malicious)


def admission_event(table: GameSession, seconds: float) -> Event:
    """Return what the run's log keeps of the admissions."""
    admitted = [record.name for record in table.roster if record.admitted]
    facts = {
        "admitted": admitted,
        "quarantined": [entry.model_dump() for entry in table.quarantined],
        "rows": len(table.pool),
        "seconds": seconds,
    }
    note = f"{len(admitted)} of {len(table.roster)} agents admitted"
    return Event("admission", len(admitted), len(table.roster), note, facts)


def tell_epochs(observe: Observer) -> Callable[[EpochEvent], None]:
    """Return a listener that turns the engine's epochs into events."""

    def on_epoch(event: EpochEvent) -> None:
        note = f"{event.asked} models, loss {event.train_loss:.3f}"
        observe(Event("training", int(100 * event.share), 100, note))

    return on_epoch


def score_all(
    scenario: Scenario,
    referee: Referee,
    outcomes: Mapping[Key, Outcome],
    observe: Observer,
    played: Mapping[str, PlayedRounds] | None = None,
) -> dict[str, DefenderScores]:
    """Return the scores of every defender, given its outcome in each world.

    Args:
        scenario: What was played.
        referee: Of this game.
        outcomes: By defender and world.
        observe: Told of each defender.
        played: Of a federated game: the rounds of each defender.
    """
    scored: dict[str, Scored] = {}
    for done, (name, defences) in enumerate(scenario.defenders.items(), 1):
        own = {world: outcomes[(name, world)] for whose, world in outcomes if whose == name}
        kinds = tuple(kind_of(type(one)) for one in defences)
        scored[name] = referee.scored(kinds, own, played[name] if played else None)
        observe(Event("scoring", done, len(scenario.defenders), name))
    reference = scored[scenario.reference]
    return {
        name: own.scores if own is reference else beside(own, reference)
        for name, own in scored.items()
    }


def result_of(
    scenario: Scenario,
    dealt: Partitioning,
    table: GameSession,
    scores: Mapping[str, DefenderScores],
    trainings: int,
    seconds: Mapping[str, float],
    rounds: Mapping[str, tuple[RoundScores, ...]] | None = None,
    notes: Sequence[str] = (),
) -> GameResult:
    """Put a game's result together; `notes` are what the training has to say."""
    notes_told = (*dealt.data.notes, *idle(scenario, table), *_skipped(rounds or {}), *notes)
    asked = with_damage(scenario.referee.scores, table.roster)
    rows = sum(record.rows for record in table.roster if record.admitted)
    return GameResult(
        scenario=scenario.name,
        scenario_hash=scenario.digest(),
        game=scenario.game,
        seed=scenario.seed,
        class_names=dealt.data.class_names,
        rows={"defender": len(dealt.defender), "agents": rows, "test": len(dealt.test_y)},
        roster=with_distances(table.roster, scenario, dealt.data.shape),
        quarantined=table.quarantined,
        defenders=dict(scores),
        verdict=verdict(scores, table.roster, table.quarantined, notes_told),
        definitions=definitions(asked),
        trainings=trainings,
        seconds=dict(seconds),
        rounds=dict(rounds or {}),
        notes=notes_told,
        asked={score.title: told(score) for score in asked},
    )


def _skipped(rounds: Mapping[str, tuple[RoundScores, ...]]) -> list[str]:
    """Say of which defenders rounds were skipped: their scores are of a model that stood still."""
    said = []
    for name, played in rounds.items():
        skipped = [entry for entry in played if entry.skipped]
        if skipped:
            why = skipped[0].note.removeprefix("skipped: ")
            said.append(
                f"the defender {name} skipped {len(skipped)} of {len(played)} rounds and kept its "
                f"model as it was: round {skipped[0].round}, {why}"
            )
    return said
