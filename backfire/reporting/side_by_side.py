"""The section that sets the pooled and the federated game of the same agents side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.gap import Gap, gap_chart
from backfire.reporting.charts.intervals import IntervalRow, dot_plot
from backfire.reporting.figures import ReportFigure, group_marks
from backfire.reporting.readings import Reading, finding_reading
from backfire.reporting.tables import MAX_GROUPS
from backfire.reporting.text import many, number, plain
from server.referee.results import DefenderScores, Effort, GamePart, GameResult, GroupScores
from server.referee.side_by_side import GamePair, findings, pairs

MAX_PAIRS = 24


@dataclass(frozen=True)
class GameRow:
    """A group of attackers in one game.

    Attributes:
        game: Which.
        attackers: Admitted attackers of the group.
        scores: None where it does not attack in this game.
        defender: Scores of the defender, for clean accuracy.
        reading: Whether it backfired.
    """

    game: str
    attackers: int
    scores: GroupScores | None
    defender: DefenderScores
    reading: Reading | None


@dataclass(frozen=True)
class PairRows:
    """A group against one defender, one row for each game."""

    group: str
    colour: str
    defender: str
    rows: tuple[GameRow, ...]


@dataclass(frozen=True)
class TrainingCost:
    """How much one game trains, in words and numbers."""

    game: str
    words: str
    seen: str
    trainings: str


@dataclass(frozen=True)
class GamesSideBySide:
    """All that the section shows.

    Attributes:
        said: What was found, in sentences.
        figures: ASR in both games, group by group, and interference.
        tables: Groups against defenders that play in both games.
        hidden: Such pairs that are not shown.
        trainings: What each game trains.
        ratio: How the two compare, in words.
        alone: Defenders that play in one of the games only, by game.
    """

    said: tuple[str, ...]
    figures: list[ReportFigure]
    tables: list[PairRows]
    hidden: int
    trainings: list[TrainingCost]
    ratio: str
    alone: list[tuple[str, str]]


def side_by_side(result: GameResult, colours: dict[str, str]) -> GamesSideBySide | None:
    """Return the section of a result of both games; None for one game."""
    if not result.games:
        return None
    found = pairs(result.games, result.defenders)
    shown = found[:MAX_PAIRS]
    return GamesSideBySide(
        said=findings(result.games, result.defenders),
        figures=_figures(shown, result, colours),
        tables=[_pair_rows(pair, result, colours) for pair in shown],
        hidden=len(found) - len(shown),
        trainings=[_training(part) for part in result.games],
        ratio=_ratio([part.effort for part in result.games]),
        alone=_alone(found, result),
    )


def _pair_rows(pair: GamePair, result: GameResult, colours: dict[str, str]) -> PairRows:
    judged = {played.part.game for played, _ in pair.judged}
    rows = tuple(
        GameRow(
            game=played.part.game,
            attackers=played.attackers,
            scores=played.scores,
            defender=result.defenders[played.defender],
            reading=finding_reading(played.scores)
            if played.scores and played.part.game in judged
            else None,
        )
        for played in pair.games
    )
    return PairRows(pair.group, colours.get(pair.group, "c0"), pair.title, rows)


def _figures(
    found: Sequence[GamePair], result: GameResult, colours: dict[str, str]
) -> list[ReportFigure]:
    groups = list(dict.fromkeys(pair.group for pair in found if pair.scored))[:MAX_GROUPS]
    figures = []
    for group in groups:
        colour, own = colours.get(group, "c0"), [pair for pair in found if pair.group == group]
        figures.append(ReportFigure(group, _count(own[0]), (_asr_chart(own, colour),)))
    gaps = _gaps([pair for pair in found if pair.group in groups], colours)
    if gaps:
        note = "alone − together, in points; above 0 the others make it fail"
        figures.append(
            ReportFigure("interference", note, (gap_chart(gaps, "Interference by game"),))
        )
    return figures


def _count(pair: GamePair) -> str:
    counts = {played.attackers for played in pair.games}
    if len(counts) == 1:
        return many(counts.pop(), "attacker")
    return ", ".join(f"{many(p.attackers, 'attacker')} {p.part.game}" for p in pair.games)


def _asr_chart(found: Sequence[GamePair], colour: str) -> Markup:
    rows = []
    for pair in found:
        rows.append(IntervalRow(pair.title))
        rows += [IntervalRow(p.part.game, group_marks(scores, colour)) for p, scores in pair.scored]
    return dot_plot(rows, f"ASR of {plain(found[0].group)}, pooled and federated")


def _gaps(found: Sequence[GamePair], colours: dict[str, str]) -> list[Gap]:
    gaps: list[Gap] = []
    for pair in found:
        played = [(p.part.game, s.interference) for p, s in pair.scored]
        known = [(game, gap) for game, gap in played if gap is not None and gap.value is not None]
        if known:
            gaps.append(Gap(f"{pair.group}, {pair.title}"))
            gaps += [Gap(game, gap, colours.get(pair.group, "c0")) for game, gap in known]
    return gaps


def _training(part: GamePart) -> TrainingCost:
    effort = part.effort
    words = _federated(effort) if effort.rounds else _pooled(effort)
    return TrainingCost(part.game, words, number(effort.seen), number(part.trainings))


def _pooled(effort: Effort) -> str:
    own = f", {number(effort.own_rows)} of them the defender's own" if effort.own_rows else ""
    epochs = many(effort.epochs or 0, "epoch")
    return f"{epochs} over the {number(round(effort.rows))} rows of the pool{own}"


def _federated(effort: Effort) -> str:
    local = (
        many(effort.steps, "local step")
        if effort.steps is not None
        else many(effort.epochs or 0, "local epoch")
    )
    held = f"{number(round(effort.rows))} rows in all, the defender's own not among them"
    return (
        f"{many(effort.rounds, 'round')} of {local} by {many(effort.agents, 'agent')} with {held}"
    )


def _ratio(efforts: Sequence[Effort]) -> str:
    first, second = efforts
    if not first.seen or not second.seen:
        return "One of the games trains on no rows."
    ratio = second.seen / first.seen
    times, more, less = (
        (ratio, "federated", "pooled") if ratio >= 1 else (1 / ratio, "pooled", "federated")
    )
    if round(times, 1) == 1:
        return "An undefended model is trained on about as many rows in the one game as the other."
    return (
        f"An undefended model of the {more} game is trained on {times:.1f} times as many rows as "
        f"one of the {less} game."
    )


def _alone(found: Sequence[GamePair], result: GameResult) -> list[tuple[str, str]]:
    paired = {played.defender for pair in found for played in pair.games}
    return [
        (part.game, ", ".join(plain(part.defenders[name]) for name in names))
        for part in result.games
        if (names := [name for name in part.defenders if name not in paired])
    ]
