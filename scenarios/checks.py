"""Rules of a scenario that no single field can state, each with the place that breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from learning.pool import DEFENDER
from scenarios.federation import malicious_in_round
from scenarios.games import Game, family_of, games_of
from scenarios.quoting import listing, shown

if TYPE_CHECKING:
    from scenarios.schema import AgentGroup, Scenario

MAX_AGENTS: Final = 100_000

# Fields of behaviours, and of what they contain, that hold labels of the data set.
LABEL_FIELDS: Final = frozenset({"target", "source", "label", "labels", "others"})

# A federated defender's rule aggregates also what its index is made of.
_AFTER_INDEXING: Final = frozenset({"hook", "preaggregation", "aggregation"})

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """A rule that a scenario breaks.

    Attributes:
        path: The field to change.
        message: ``expected ..., got ...``, one line.
    """

    path: Path
    message: str


def problems(scenario: Scenario) -> list[Problem]:
    """Return what is wrong with a scenario whose fields are each in range."""
    total = sum(group.count for group in scenario.agents)
    if total > MAX_AGENTS:
        return [Problem(("agents",), f"expected at most {MAX_AGENTS} agents in all, got {total}")]
    return [
        *_names(scenario),
        *_labels(scenario),
        *_defences(scenario),
        *_games(scenario),
        *_rounds(scenario),
        *_training(scenario),
        *_controls(scenario),
    ]


def _controls(scenario: Scenario) -> Iterator[Problem]:
    names = listing(scenario.defenders)
    for position, name in enumerate(scenario.referee.controls or ()):
        if name not in scenario.defenders:
            message = f"expected the name of a defender ({names}), got {shown(name)}"
            yield Problem(("referee", "controls", position), message)


def agent_name(group: AgentGroup, index: int) -> str:
    """Return the name of an agent: its group's where it is the only one, else a numbered one."""
    if group.count == 1:
        return group.name
    return f"{group.name}-{index + 1:0{max(2, len(str(group.count)))}d}"


def _names(scenario: Scenario) -> Iterator[Problem]:
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


def _labels(scenario: Scenario) -> Iterator[Problem]:
    classes = scenario.data.known_classes
    if classes is None:
        return
    for position, group in enumerate(scenario.agents):
        for path, label in _label_values(group.behaviour, ("agents", position, "behaviour")):
            if not 0 <= label < classes:
                yield Problem(path, f"expected a label from 0 to {classes - 1}, got {label}")


def _label_values(value: object, path: Path) -> Iterator[tuple[Path, int]]:
    """Yield the labels that a behaviour names, with their paths."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if isinstance(value, BaseModel):
        for field, info in type(value).model_fields.items():
            yield from _label_values(getattr(value, field), (*path, info.alias or field))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _label_values(item, (*path, index))
    elif name in LABEL_FIELDS and isinstance(value, int) and not isinstance(value, bool):
        yield path, value


def _defences(scenario: Scenario) -> Iterator[Problem]:
    for name, defences in scenario.defenders.items():
        index: int | None = None
        filters = False
        for position, defence in enumerate(defences):
            path = ("defenders", name, position)
            kind, family = str(getattr(defence, "kind", "")), family_of(defence)
            if getattr(defence, "needs_own_rows", False) and scenario.defender_share == 0:
                yield Problem(
                    ("defender_share",),
                    f"expected a share above 0 for the {kind} of {shown(name)}, got 0",
                )
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


def _training(scenario: Scenario) -> Iterator[Problem]:
    stopping = scenario.training.early_stopping
    if stopping is None or scenario.training.validation_share > 0:
        return
    if stopping.monitor != "train_loss":
        yield Problem(
            ("training", "early_stopping", "monitor"),
            f"expected train_loss, or a validation_share above 0, got {stopping.monitor}",
        )


def _games(scenario: Scenario) -> Iterator[Problem]:
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


def _rounds(scenario: Scenario) -> Iterator[Problem]:
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


def _malicious_share(scenario: Scenario, share: float) -> Iterator[Problem]:
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


def _feasible(scenario: Scenario, name: str) -> Iterator[Problem]:
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
