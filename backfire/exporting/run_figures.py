"""The figures of one game: ASR beside its controls, clean accuracy, and its rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backfire.exporting.figures import ExportFigure, FigureCurve, FigureMark, FigureRow
from backfire.exporting.names import file_name
from scenarios.text.quoting import printable
from server.referee.results import (
    DefenderScores,
    GameResult,
    GroupScores,
    RoundScores,
    Score,
)
from server.referee.scoring.scores import share

MAX_GROUPS = 12
# More curves than these cannot be told apart: then there is one for each group.
MAX_CURVES = 6
_OF_ONE_GAME = "One game, seed {seed}: the intervals do not hold the noise of training."
_WILSON = "Bars: 95 % Wilson intervals over inputs. "


def run_figures(result: GameResult) -> list[ExportFigure]:
    """Return the figures of a game, those that it has no scores for left out."""
    found = [*_asr(result), _accuracy(result), *_rounds(result)]
    return [figure for figure in found if figure.rows or figure.curves]


def _said(result: GameResult) -> str:
    return _OF_ONE_GAME.format(seed=result.seed)


def _asr(result: GameResult) -> Iterator[ExportFigure]:
    rows: list[FigureRow] = []
    for name, scores in result.defenders.items():
        own = [
            FigureRow(printable(group, 40), _marks(found))
            for group, found in list(scores.groups.items())[:MAX_GROUPS]
        ]
        rows += [FigureRow(printable(name, 40)), *own] if own else []
    yield ExportFigure(
        "asr",
        f"Attack success rate (ASR) by defender and group of attackers in "
        f"{printable(result.scenario, 80)}, together and, of the same agents and inputs, in games "
        f"in which each attacks alone and on a model that never saw the trigger. {_WILSON}"
        f"{_said(result)}",
        "ASR (%)",
        rows=rows,
    )


def _marks(scores: GroupScores) -> tuple[FigureMark, ...]:
    own = scores.comparison
    if own is None:
        control = None if scores.asr_untrained is None else scores.asr_untrained.pooled
        return tuple(_known([("together", scores.asr.pooled), ("untrained", control)]))
    pairs = [("together", own.together), ("alone", own.alone), ("untrained", own.untrained)]
    return tuple(_known(pairs))


def _known(pairs: Sequence[tuple[str, Score | None]]) -> Iterator[FigureMark]:
    for name, score in pairs:
        if score is not None and score.value is not None:
            yield FigureMark(name, score.value, score.low, score.high)


def _accuracy(result: GameResult) -> ExportFigure:
    rows = [
        FigureRow(printable(name, 40), tuple(_known(_accuracies(scores))))
        for name, scores in result.defenders.items()
    ]
    return ExportFigure(
        "clean-accuracy",
        f"Clean accuracy by defender in {printable(result.scenario, 80)}, in the attacked game "
        f"and in the same game without attackers. {_WILSON}{_said(result)}",
        "clean accuracy (%)",
        rows=rows,
    )


def _accuracies(scores: DefenderScores) -> list[tuple[str, Score | None]]:
    free = scores.clean_accuracy_attacker_free
    return [("attacked", scores.clean_accuracy), ("without attackers", free)]


def _rounds(result: GameResult) -> Iterator[ExportFigure]:
    for name, rounds in result.rounds.items():
        seen = [entry for entry in rounds if entry.clean_accuracy is not None]
        members = _members(result, name, seen)
        who = "agent" if all(len(own) == 1 for own in members.values()) else "group of attackers"
        curves = [_curve(label, own, seen) for label, own in members.items()]
        yield ExportFigure(
            file_name("rounds", name),
            f"ASR by {who} and clean accuracy after each round against {printable(name, 64)} in "
            f"{printable(result.scenario, 80)}. Bands: 95 % Wilson intervals over inputs. "
            f"{_said(result)}",
            "share of inputs (%)",
            "round",
            curves=[*curves, _clean(seen)] if seen else (),
        )


def _members(
    result: GameResult, defender: str, seen: Sequence[RoundScores]
) -> Mapping[str, Sequence[str]]:
    """Return the agents of each curve: one of each, or of many agents those of a group."""
    agents = list(dict.fromkeys(name for entry in seen for name in entry.asr))
    if len(agents) <= MAX_CURVES:
        return {printable(name, 40): [name] for name in agents}
    groups = {record.name: record.group for record in result.roster_of(defender)}
    found: dict[str, list[str]] = {}
    for name in agents:
        found.setdefault(printable(groups.get(name, "unknown"), 40), []).append(name)
    return found


def _curve(label: str, agents: Sequence[str], seen: Sequence[RoundScores]) -> FigureCurve:
    pooled = [_pooled([entry.asr[name] for name in agents if name in entry.asr]) for entry in seen]
    return _through(label, seen, pooled)


def _pooled(scores: Sequence[Score]) -> Score:
    return share(sum(one.hits for one in scores), sum(one.count for one in scores))


def _clean(seen: Sequence[RoundScores]) -> FigureCurve:
    return _through("clean accuracy", seen, [entry.clean_accuracy for entry in seen], dashed=True)


def _through(
    label: str, seen: Sequence[RoundScores], scores: Sequence[Score | None], *, dashed: bool = False
) -> FigureCurve:
    known = [None if one is None or one.value is None else one for one in scores]
    return FigureCurve(
        label,
        tuple(float(entry.round) for entry in seen),
        tuple(None if one is None else one.value for one in known),
        tuple(None if one is None else one.low for one in known),
        tuple(None if one is None else one.high for one in known),
        dashed,
    )
