"""Both games of a scenario: the same agents pooled, then federated.

Each is the whole game that it is by itself, with a referee and controls of its own; nothing of
the one is known in the other. What they share is the agents: their data, triggers and targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.serverapp import Grid

from learning.data.partitioning import Partitioning
from scenarios.games import Game as Kind
from scenarios.participation import Participation
from scenarios.scenario import Scenario
from server.events import Event, Observer
from server.games.checkpointer import Checkpointer
from server.games.federated import play_federated
from server.games.game import Game
from server.games.pooled import play_pooled
from server.referee.results import AgentRecord, DefenderScores, Effort, GamePart, GameResult
from server.referee.side_by_side import findings
from server.referee.verdict import verdict
from strategies.pipeline import Outcome


def play_both(
    scenario: Scenario,
    dealt: Partitioning,
    grid: Grid,
    observe: Observer,
    keeper: Checkpointer | None = None,
) -> Game:
    """Play the pooled and the federated game of a scenario over one grid.

    Args:
        scenario: What to play.
        dealt: The dealt data.
        grid: The transport to the agents.
        observe: Told of each step, with the game in front of its phase.
        keeper: Keeps both games.

    Returns:
        One game, in which a defender is called ``<game>: <name>``.

    Raises:
        ValueError: If one of the games cannot be played.
    """
    kinds = scenario.games()
    games: dict[Kind, Game] = {}
    for kind in kinds:
        play = play_pooled if kind == "pooled" else play_federated
        games[kind] = play(scenario.only(kind), dealt, grid, _of_game(observe, kind), keeper)
    outcomes: dict[str, Outcome] = {
        _name(kind, name): outcome
        for kind, game in games.items()
        for name, outcome in game.outcomes.items()
    }
    # Of the two tables only that of the pooled game holds the agents' rows.
    return Game(scenario, _merged(scenario, dealt, games), outcomes, games["pooled"].table)


def _name(kind: Kind, defender: str) -> str:
    return f"{kind}: {defender}"


def _of_game(observe: Observer, kind: Kind) -> Observer:
    def tell(event: Event) -> None:
        facts = {"game": kind, **event.facts} if event.facts else event.facts
        observe(replace(event, phase=_name(kind, event.phase), facts=facts))

    return tell


def _merged(scenario: Scenario, dealt: Partitioning, games: Mapping[Kind, Game]) -> GameResult:
    results = {kind: game.result for kind, game in games.items()}
    parts = tuple(_part(scenario, dealt, kind, result) for kind, result in results.items())
    defenders = {
        _name(kind, name): scores
        for kind, result in results.items()
        for name, scores in result.defenders.items()
    }
    pooled = results["pooled"]
    values = {name: getattr(pooled, name) for name in GameResult.model_fields}
    return GameResult(
        **values
        | {
            "scenario_hash": scenario.digest(),
            "game": "both",
            "roster": tuple(map(_either, *(result.roster for result in results.values()))),
            "quarantined": tuple(
                entry.model_copy(update={"message": f"{kind} game: {entry.message}"})
                for kind, result in results.items()
                for entry in result.quarantined
            ),
            "defenders": defenders,
            "verdict": _verdict(scenario, parts, results),
            "trainings": sum(result.trainings for result in results.values()),
            "seconds": {
                _name(kind, phase): seconds
                for kind, result in results.items()
                for phase, seconds in result.seconds.items()
            },
            "rounds": {
                _name(kind, name): rounds
                for kind, result in results.items()
                for name, rounds in result.rounds.items()
            },
            "notes": tuple(_notes(results)),
            "games": parts,
        }
    )


def _notes(results: Mapping[Kind, GameResult]) -> list[str]:
    """Return what both games have to say, once, and then what each has."""
    shared = [n for n in results["pooled"].notes if n in results["federated"].notes]
    return shared + [
        f"{kind} game: {note}"
        for kind, result in results.items()
        for note in result.notes
        if note not in shared
    ]


def _part(scenario: Scenario, dealt: Partitioning, kind: Kind, result: GameResult) -> GamePart:
    return GamePart(
        game=kind,
        defenders={_name(kind, name): name for name in result.defenders},
        roster=result.roster,
        effort=effort_of(scenario, dealt, kind, result.roster),
        trainings=result.trainings,
    )


def effort_of(
    scenario: Scenario, dealt: Partitioning, kind: Kind, roster: Sequence[AgentRecord]
) -> Effort:
    """Return how much an undefended model is trained in one of the games."""
    if kind == "federated":
        return _federated_effort(scenario, roster)
    admitted = [agent for agent in roster if agent.admitted]
    rows = len(dealt.defender) + sum(agent.rows for agent in admitted)
    epochs = scenario.training.epochs
    return Effort(
        rounds=0,
        epochs=epochs,
        agents=len(admitted),
        rows=rows,
        own_rows=len(dealt.defender),
        seen=epochs * rows,
    )


def _federated_effort(scenario: Scenario, roster: Sequence[AgentRecord]) -> Effort:
    federation, size = scenario.federation, scenario.training.batch_size
    held = {agent.name: agent.rows for agent in roster}
    participation = Participation(scenario)
    rounds = [
        [held[name] for name in participation.of(number)]
        for number in range(1, federation.rounds + 1)
    ]
    steps, epochs = federation.local_steps, federation.local_epochs
    return Effort(
        rounds=federation.rounds,
        epochs=epochs if steps is None else None,
        steps=steps,
        agents=max(map(len, rounds)),
        rows=sum(map(sum, rounds)) / len(rounds),
        own_rows=0,
        seen=sum(
            epochs * rows if steps is None else steps * min(size, rows)
            for sampled in rounds
            for rows in sampled
        ),
    )


def _either(one: AgentRecord, other: AgentRecord) -> AgentRecord:
    """Return what an agent is over both games: the federated one knows its update attack."""
    return other.model_copy(
        update={
            "malicious": one.malicious or other.malicious,
            "admitted": one.admitted or other.admitted,
            "poisoned_rows": max(one.poisoned_rows, other.poisoned_rows),
            "target": other.target if one.target is None else one.target,
            "source": other.source if one.source is None else one.source,
        }
    )


def _verdict(
    scenario: Scenario, parts: tuple[GamePart, ...], results: Mapping[Kind, GameResult]
) -> tuple[str, ...]:
    said: list[str] = []
    scores: dict[str, DefenderScores] = {}
    caveat, told = "", set[str]()
    for part in parts:
        result = results[part.game]
        own = {_name(part.game, name): one for name, one in result.defenders.items()}
        notes = [note for note in result.notes if note not in told]
        told |= set(notes)
        *lines, caveat = verdict(own, part.roster, result.quarantined, notes, part.game)
        said += lines
        scores |= own
    return (*findings(parts, scores), *_left_out(scenario), *said, caveat)


def _left_out(scenario: Scenario) -> list[str]:
    """Say what agents cannot do in the pooled game."""
    groups = [
        group.name
        for kept, group in zip(scenario.only("pooled").agents, scenario.agents, strict=True)
        if kept != group
    ]
    if not groups:
        return []
    return [
        f"The pooled game has no updates and no rounds: {', '.join(groups)} "
        "contributed the data of their behaviour, without update attack or window."
    ]
