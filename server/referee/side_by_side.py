"""The same agents pooled and federated: what the two games, set side by side, say.

Each game keeps its own controls, so that `interference` compares an attacker with itself in the
same game; only then are the games compared. The words are those of the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learning.statistics import Interval, independent_difference
from server.referee.damage.findings import CODES
from server.referee.findings import CONCLUDED, code_of, is_void
from server.referee.results import AgentRecord, DefenderScores, GamePart, GroupScores
from server.referee.verdict import UNTOLD, judgement, reference_of
from server.referee.wording import points_of


@dataclass(frozen=True)
class ComparedGame:
    """A group of attackers in one game, against one defender.

    Attributes:
        part: The game.
        defender: The defender's name in the result.
        attackers: Admitted attackers of the group.
        against: All scores of the defender.
        scores: The group's; None where it does not attack in this game.
    """

    part: GamePart
    defender: str
    attackers: int
    against: DefenderScores
    scores: GroupScores | None


@dataclass(frozen=True)
class GamePair:
    """A group of attackers in each of the games.

    Attributes:
        group: Its name.
        title: The defenders, as the scenario calls them.
        games: One entry for each game, in their order.
    """

    group: str
    title: str
    games: tuple[ComparedGame, ...]

    @property
    def scored(self) -> list[tuple[ComparedGame, GroupScores]]:
        """The games in which its attack succeeds or fails on at least one input."""
        return [(one, one.scores) for one in self.games if one.scores and one.scores.asr.agents]

    @property
    def judged(self) -> list[tuple[ComparedGame, GroupScores]]:
        """The games in which something is found of it: of its success, or of the damage it does."""
        return [
            (one, one.scores)
            for one in self.games
            if one.scores and (one.scores.asr.agents or code_of(one.scores) in CODES)
        ]


def pairs(parts: Sequence[GamePart], defenders: Mapping[str, DefenderScores]) -> list[GamePair]:
    """Return each group against each defender that plays in all games, reference defenders first.

    Args:
        parts: The games.
        defenders: Scores by name in the result.
    """
    found = []
    for names in _matches(parts, defenders):
        groups = dict.fromkeys(group for name in names for group in defenders[name].groups)
        title = " and ".join(
            dict.fromkeys(part.defenders[name] for part, name in zip(parts, names, strict=True))
        )
        for group in groups:
            games = tuple(
                _played(part, name, group, defenders[name])
                for part, name in zip(parts, names, strict=True)
            )
            found.append(GamePair(group, title, games))
    return found


def _played(part: GamePart, defender: str, group: str, against: DefenderScores) -> ComparedGame:
    return ComparedGame(part, defender, _attackers(part, group), against, against.groups.get(group))


def findings(parts: Sequence[GamePart], defenders: Mapping[str, DefenderScores]) -> tuple[str, ...]:
    """Return what was found, in sentences: the finding, then the differences between the games."""
    names = _references(parts, defenders)
    against = pairs(parts, defenders)
    shown = [pair for pair in against if tuple(p.defender for p in pair.games) == names]
    single = [single for part in parts if (single := _single(part))]
    if single or not any(pair.judged for pair in shown):
        said = "; ".join(single) or "no attacker could be scored"
        return (f"Whether attackers make each other fail cannot be compared: {said}.",)
    clauses = [clause for pair in shown for clause in told(pair)]
    return (
        f"Against {_called(parts, names, defenders)}, " + "; ".join(clauses) + ".",
        *(sentence for pair in shown for sentence in _difference(pair)),
    )


def told(pair: GamePair) -> list[str]:
    """Return in words whether a group backfired: one clause for all games, or one for each."""
    said = [judgement(pair.group, scores, played.against) for played, scores in pair.judged]
    if len(said) > 1 and len(set(said)) == 1:
        played, scores = pair.judged[0]
        numbers = [f"{played.part.game} {gap}" for played, own in pair.judged if (gap := _gap(own))]
        whole = judgement(pair.group, scores, played.against, " in both games")
        return [whole + _numbers(", ".join(numbers))]
    return [
        judgement(pair.group, scores, played.against, f" in the {played.part.game} game")
        + _numbers(_gap(scores))
        for played, scores in pair.judged
    ]


def _matches(
    parts: Sequence[GamePart], defenders: Mapping[str, DefenderScores]
) -> list[tuple[str, ...]]:
    """Return the defenders to compare, one name for each game."""
    by_title = [{title: name for name, title in part.defenders.items()} for part in parts]
    shared = [
        tuple(names[title] for names in by_title)
        for title in by_title[0]
        if all(title in names for names in by_title)
    ]
    return list(dict.fromkeys([_references(parts, defenders), *shared]))


def _references(
    parts: Sequence[GamePart], defenders: Mapping[str, DefenderScores]
) -> tuple[str, ...]:
    return tuple(reference_of({name: defenders[name] for name in part.defenders}) for part in parts)


def _cheats(roster: Sequence[AgentRecord]) -> list[AgentRecord]:
    return [agent for agent in roster if agent.admitted and agent.malicious]


def _attackers(part: GamePart, group: str) -> int:
    return sum(agent.group == group for agent in _cheats(part.roster))


def _single(part: GamePart) -> str:
    cheats = _cheats(part.roster)
    if len(cheats) > 1:
        return ""
    who = f"{cheats[0].name} is the only attacker" if cheats else "no admitted agent attacks"
    return f"in the {part.game} game {who}"


def _called(
    parts: Sequence[GamePart], names: Sequence[str], defenders: Mapping[str, DefenderScores]
) -> str:
    called = [
        part.defenders[name] if defenders[name].defences else "the undefended model"
        for part, name in zip(parts, names, strict=True)
    ]
    if len(set(called)) == 1:
        return called[0]
    games = zip(called, parts, strict=True)
    return " and ".join(f"{name} in the {part.game} game" for name, part in games)


def _difference(pair: GamePair) -> list[str]:
    """Compare the interference of the two games, taking their inputs as independent.

    Only where both games passed all gates and both hold the noise of training.
    """
    gaps = [
        (played.part.game, scores.interference)
        for played, scores in pair.scored
        if code_of(scores) in CONCLUDED and scores.interference is not None
    ]
    intervals = [Interval(g.value, g.low, g.high) for _, g in gaps if g.value is not None]
    if len(intervals) < 2:
        return []
    (first, _), (second, _) = gaps
    found = independent_difference(intervals[1], intervals[0])
    if found.low <= 0 <= found.high:
        said = f"{UNTOLD} from that in the {first} game"
    else:
        word = "above" if found.value > 0 else "below"
        said = f"is {points_of(abs(found.value))} points {word} that in the {first} game"
    ends = f"{points_of(found.low)} to {points_of(found.high)}"
    return [f"Interference of {pair.group} in the {second} game {said} (difference {ends} points)."]


def _gap(scores: GroupScores) -> str:
    gap = scores.interference
    if is_void(scores) or gap is None or gap.value is None:
        return ""
    return f"{points_of(gap.value)} points, {points_of(gap.low)} to {points_of(gap.high)}"


def _numbers(text: str) -> str:
    return f" (interference {text})" if text else ""
