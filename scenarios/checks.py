"""Rules of a scenario that no single field can state, each with the place that breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Final

from pydantic import BaseModel

from learning.pool import DEFENDER
from scenarios.federation import malicious_in_round
from scenarios.fit import misfits, no_own_rows
from scenarios.games import Game, family_of, games_of
from scenarios.schema import Draft, agent_name
from scenarios.text.problems import Problem
from scenarios.text.quoting import listing, shown

MAX_AGENTS: Final = 100_000

# A federated defender's rule aggregates also what its index is made of.
_AFTER_INDEXING: Final = frozenset({"hook", "preaggregation", "aggregation"})


def problems(scenario: Draft) -> list[Problem]:
    """Return what is wrong with a scenario whose fields are each in range."""
    total = sum(group.count for group in scenario.agents)
    if total > MAX_AGENTS:
        return [Problem(("agents",), f"expected at most {MAX_AGENTS} agents in all, got {total}")]
    return [
        *_names(scenario),
        *misfits(scenario, scenario.data.sketch),
        *_defences(scenario),
        *_games(scenario),
        *_rounds(scenario),
        *_training(scenario),
        *_controls(scenario),
    ]


def unread(scenario: Draft) -> list[Problem]:
    """Return the blocks that somebody wrote and no game of the scenario reads.

    A block that is written out in full with its defaults, as in a resolved scenario, counts as
    not written.
    """
    if "federated" in scenario.games():
        return []
    wrong = "expected game: federated, or both, for this block, which only rounds read; got pooled"
    found = [Problem(("federation",), wrong)] if _written(scenario, "federation") else []
    return found + [
        Problem(("agents", position, "window"), wrong)
        for position, group in enumerate(scenario.agents)
        if _written(group, "window")
    ]


def _written(spec: BaseModel, field: str) -> bool:
    block: BaseModel = getattr(spec, field)
    whole = block.model_fields_set == set(type(block).model_fields)
    usual = whole and block == type(block)()
    return field in spec.model_fields_set and not usual


def _controls(scenario: Draft) -> Iterator[Problem]:
    names = listing(scenario.defenders)
    for position, name in enumerate(scenario.referee.controls or ()):
        if name not in scenario.defenders:
            message = f"expected the name of a defender ({names}), got {shown(name)}"
            yield Problem(("referee", "controls", position), message)


def _names(scenario: Draft) -> Iterator[Problem]:
    groups = Counter(group.name for group in scenario.agents)
    seen: set[str] = set()
    for position, group in enumerate(scenario.agents):
        names = {agent_name(group, index) for index in range(group.count)}
        path = ("agents", position, "name")
        if DEFENDER in names:
            yield Problem(path, f"expected another name than that of the server, got '{DEFENDER}'")
        elif groups[group.name] > 1 and group.name in seen:
            yield Problem(path, f"expected a name of its own, got {shown(group.name)} again")
        elif names & seen:
            twice = shown(min(names & seen))
            yield Problem(path, f"expected a name of its own, got one that makes {twice} twice")
        seen |= names | {group.name}


def _defences(scenario: Draft) -> Iterator[Problem]:
    if scenario.defender_share == 0:
        yield from no_own_rows(scenario, "0")
    for name, defences in scenario.defenders.items():
        index: int | None = None
        filters = False
        for position, defence in enumerate(defences):
            path = ("defenders", name, position)
            kind, family = str(getattr(defence, "kind", "")), family_of(defence)
            if getattr(defence, "linear_only", False) and not scenario.model.linear:
                model = str(getattr(scenario.model, "kind", ""))
                yield Problem(path, f"expected a linear model (softmax) for {kind}, got {model}")
            if index is not None and family == "indexing":
                yield Problem(path, f"expected one indexing defence at most, got {kind} as another")
            elif index is not None and family not in _AFTER_INDEXING:
                yield Problem(path, f"expected only hooks after an indexing defence, got {kind}")
            if family == "indexing":
                index = position
            if getattr(defence, "filters", "pool") == "within_parts" and not filters:
                message = "expected a filter before it for filters: within_parts, got none"
                yield Problem((*path, "filters"), message)
            filters = filters or family == "filter"


def _training(scenario: Draft) -> Iterator[Problem]:
    stopping = scenario.training.early_stopping
    if stopping is None or scenario.training.validation_share > 0:
        return
    if stopping.monitor != "train_loss":
        yield Problem(
            ("training", "early_stopping", "monitor"),
            f"expected train_loss, or a validation_share above 0, got {stopping.monitor}",
        )


def _games(scenario: Draft) -> Iterator[Problem]:
    """Check that every defender has a game, every game a defender, and the order in rounds."""
    wanted = scenario.games()
    played: set[Game] = set()
    for name, defences in scenario.defenders.items():
        path, shared = ("defenders", name), set(wanted)
        for position, defence in enumerate(defences):
            here = shared.intersection(games_of(defence))
            if not here:
                yield Problem((*path, position), _unplayable(defence, shared, wanted))
                break
            shared = here
        else:
            played |= shared
            if "federated" in shared:
                yield from _ordered(name, defences)
                yield from _feasible(scenario, name)
    for game in set(wanted).difference(played) if played else ():
        message = f"expected a defender that can be played in a {game} game too, got none"
        yield Problem(("defenders",), message)


def _unplayable(defence: object, left: Set[Game], wanted: Sequence[Game]) -> str:
    """Say what was expected where no game is left that can be played with a defence."""
    kind = str(getattr(defence, "kind", ""))
    if "federated" in left and family_of(defence) == "indexing":
        return f"expected {kind} with method: exact or shards, and index: known"
    (game,) = left
    before = "" if len(wanted) == 1 else ", as those before it are of no other"
    return f"expected a defence of a {game} game{before}, got {kind}"


def _ordered(name: str, defences: Sequence[object]) -> Iterator[Problem]:
    for position, defence in enumerate(defences[:-1]):
        if family_of(defence) == "aggregation":
            kind = str(getattr(defence, "kind", ""))
            message = f"expected the aggregation rule last, got {kind} before others"
            yield Problem(("defenders", name, position), message)


def _rounds(scenario: Draft) -> Iterator[Problem]:
    """Check who can take part in rounds, and that only federated games have any."""
    federation, total = scenario.federation, sum(group.count for group in scenario.agents)
    for position, group in enumerate(scenario.agents):
        path = ("agents", position)
        if "federated" not in scenario.games():
            if group.update is not None:
                kind = getattr(group.update, "kind", "")
                message = f"expected game: federated for an update attack, got pooled and {kind}"
                yield Problem((*path, "update"), message)
        elif group.window.first > federation.rounds:
            message = f"expected a round of the game's {federation.rounds}, got "
            yield Problem((*path, "window", "first"), message + str(group.window.first))
    if (count := federation.agents_per_round) is not None and count > total:
        message = f"expected at most the {total} agents that there are, got {count}"
        yield Problem(("federation", "agents_per_round"), message)
    elif federation.malicious_share is not None:
        yield from _malicious_share(scenario, federation.malicious_share)


def _malicious_share(scenario: Draft, share: float) -> Iterator[Problem]:
    sampled = scenario.sampled()
    wanted = malicious_in_round(share, sampled)
    malicious = sum(group.count for group in scenario.agents if group.malicious)
    honest = sum(group.count for group in scenario.agents) - malicious
    for needed, there, word in (
        (wanted, malicious, "malicious"),
        (sampled - wanted, honest, "benign"),
    ):
        if needed > there:
            message = (
                f"expected a share for which there are agents: {needed} of a round's {sampled} "
                f"would be {word}, got {there}"
            )
            yield Problem(("federation", "malicious_share"), message)


def _feasible(scenario: Draft, name: str) -> Iterator[Problem]:
    """Check that the rules fit the number of agents in a round."""
    count = scenario.sampled()
    for position, defence in enumerate(scenario.defenders[name]):
        infeasible = getattr(defence, "infeasible", None)
        if infeasible is not None:
            reason = infeasible(count)
            if reason is not None:
                yield Problem(("defenders", name, position), f"expected a feasible rule: {reason}")
                return
            count = defence.rows(count) if hasattr(defence, "rows") else count
