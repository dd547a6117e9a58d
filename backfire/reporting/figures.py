"""Which charts a result gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.curve import curve_chart
from backfire.reporting.charts.heatmap import heat_map
from backfire.reporting.charts.histogram import HistogramSpread, histograms
from backfire.reporting.charts.intervals import IntervalMark, IntervalRow, dot_plot, lowest
from backfire.reporting.charts.rounds import round_chart
from backfire.reporting.removals import MAX_AGENTS as MAX_BARS
from backfire.reporting.removals import counts, removal_chart
from backfire.reporting.tables import EVERYBODY, largest
from backfire.reporting.text import many, percent, plain
from server.referee.results import (
    AgentRecord,
    DefenderScores,
    FilterScores,
    GameResult,
    GroupScores,
    Score,
)

MAX_DOTS = 40
MAX_PANELS = 16


@dataclass(frozen=True)
class ReportFigure:
    """A chart and what stands around it.

    Attributes:
        title: Foreign text.
        note: A line below the title, ready to be shown.
        charts: The drawings.
    """

    title: str
    note: str
    charts: tuple[Markup, ...]


def overview(result: GameResult, colours: dict[str, str]) -> list[ReportFigure]:
    """Return ASR beside its controls for each group, one row for each defender."""
    first = next(iter(result.defenders.values()))
    figures = []
    damaging = {agent.group for agent in result.roster if agent.damages}
    for group in largest(first.groups):
        if group in damaging:
            continue
        marks = {
            name: group_marks(d.groups[group], colours.get(group, "c0"))
            for name, d in result.defenders.items()
            if group in d.groups
        }
        rows = by_game(marks, result)
        note = _group_note(first.groups[group])
        figures.append(ReportFigure(group, note, (dot_plot(rows, f"ASR of {plain(group)}"),)))
    whole = {
        name: group_marks(d.malicious, "everybody")
        for name, d in result.defenders.items()
        if d.malicious is not None
    }
    if len(figures) > 1 and whole and first.malicious is not None:
        note = _group_note(first.malicious)
        figures.append(
            ReportFigure(
                EVERYBODY, note, (dot_plot(by_game(whole, result), "ASR of all attackers"),)
            )
        )
    return figures


def by_game(marks: Mapping[str, tuple[IntervalMark, ...]], result: GameResult) -> list[IntervalRow]:
    """Return one row for each defender; where both games were played, below a heading for each."""
    if not result.games:
        return [IntervalRow(name, own) for name, own in marks.items()]
    rows = []
    for part in result.games:
        own = [IntervalRow(part.defenders[n], marks[n]) for n in part.defenders if n in marks]
        rows += [IntervalRow(part.game), *own] if own else []
    return rows


def _group_note(scores: GroupScores) -> str:
    compared = scores.comparison
    if compared is None:
        return f"{many(scores.asr.agents, 'attacker')}, none played alone"
    if compared.agents == compared.of:
        return many(compared.of, "attacker")
    return f"{compared.agents} of {many(compared.of, 'attacker')}"


def group_marks(scores: GroupScores, colour: str) -> tuple[IntervalMark, ...]:
    """Return the ASR of a group beside its controls, all of the same agents and trainings."""
    compared = scores.comparison
    if compared is not None:
        control = compared.untrained
        marks = [
            IntervalMark("ASR together", compared.together, "dot", colour),
            IntervalMark("ASR alone", compared.alone, "diamond", colour, -9.0),
        ]
    else:
        control = None if scores.asr_untrained is None else scores.asr_untrained.pooled
        marks = [IntervalMark("ASR", scores.asr.pooled, "dot", colour)]
    if control is not None:
        marks.append(IntervalMark("ASR untrained", control, "bar", "control", 9.0))
    return tuple(marks)


def accuracies(result: GameResult) -> list[ReportFigure]:
    """Return clean accuracy beside the attacker-free game, and adversarial accuracy."""
    scores = result.defenders.values()
    low = lowest(
        [d.clean_accuracy for d in scores] + [d.clean_accuracy_attacker_free for d in scores]
    )
    clean = {name: _clean_marks(d) for name, d in result.defenders.items()}
    rows = by_game(clean, result)
    note = "clean test inputs" + (f"; the axis begins at {percent(low)}" if low else "")
    figures = [ReportFigure("clean accuracy", note, (dot_plot(rows, "Clean accuracy", low=low),))]
    for attack in dict.fromkeys(title for d in scores for title in d.adversarial_accuracy):
        found = {
            name: (
                IntervalMark("adversarial accuracy", d.adversarial_accuracy[attack], colour="c2"),
            )
            for name, d in result.defenders.items()
            if attack in d.adversarial_accuracy
        }
        chart = dot_plot(by_game(found, result), f"Adversarial accuracy, {plain(attack)}")
        figures.append(ReportFigure("adversarial accuracy", plain(attack, 200), (chart,)))
    return figures


def _clean_marks(scores: DefenderScores) -> tuple[IntervalMark, ...]:
    marks = [IntervalMark("clean accuracy", scores.clean_accuracy, "dot", "c1", -4.0)]
    free = scores.clean_accuracy_attacker_free
    if free is not None:
        marks.append(IntervalMark("without attackers", free, "ring", "control", 6.0))
    return tuple(marks)


def agent_figures(result: GameResult, colours: dict[str, str]) -> list[ReportFigure]:
    """Return ASR by agent, one panel for each defender: dots for few agents, else histograms."""
    figures = []
    for name, scores in list(result.defenders.items())[:MAX_PANELS]:
        roster = result.roster_of(name)
        cheats = [agent for agent in roster if agent.malicious and not agent.damages]
        scored = [agent for agent in cheats if agent.name in scores.agents]
        draw = _dots if len(scored) <= MAX_DOTS else _spreads
        if scored:
            chart = draw(scored, scores, colours, f"ASR by agent against {plain(name)}")
            figures.append(ReportFigure(name, _defences(scores), (chart,)))
    return figures


def _defences(scores: DefenderScores) -> str:
    return plain(" + ".join(scores.defences) or "no defence", 200)


def _dots(
    agents: Sequence[AgentRecord], scores: DefenderScores, colours: dict[str, str], label: str
) -> Markup:
    rows = []
    sizes = {group: sum(a.group == group for a in agents) for group in {a.group for a in agents}}
    previous = None
    for agent in agents:
        if agent.group != previous and sizes[agent.group] > 1:
            rows.append(IntervalRow(agent.group))
        previous = agent.group
        own = scores.agents[agent.name]
        marks = [
            _mark("ASR", own.asr, "dot", colours[agent.group], True),
            _mark("ASR alone", own.asr_alone, "diamond", colours[agent.group], False),
            _mark("ASR untrained", own.asr_untrained, "bar", "control", False),
        ]
        rows.append(IntervalRow(agent.name, tuple(mark for mark in marks if mark is not None)))
    return dot_plot(rows, label, height=19.0)


def _mark(
    name: str, score: Score | None, shape: str, colour: str, whisker: bool
) -> IntervalMark | None:
    return None if score is None else IntervalMark(name, score, shape, colour, whisker=whisker)


def _spreads(
    agents: Sequence[AgentRecord], scores: DefenderScores, colours: dict[str, str], label: str
) -> Markup:
    groups = largest(scores.groups)
    spreads = []
    for group in groups:
        own = [scores.agents[agent.name] for agent in agents if agent.group == group]
        spreads.append(
            HistogramSpread(
                group,
                colours.get(group, "c0"),
                _values([one.asr for one in own]),
                _values([one.asr_untrained for one in own]),
                _values([one.asr_alone for one in own]),
            )
        )
    return histograms(spreads, label)


def _values(scores: Sequence[Score | None]) -> list[float]:
    return [score.value for score in scores if score is not None and score.value is not None]


def cross_figures(result: GameResult) -> list[ReportFigure]:
    """Return the cross-ASR matrix of each defender that has one."""
    return [
        ReportFigure(
            name,
            _defences(d),
            (heat_map(d.cross_asr, result.class_names, f"Cross-ASR against {plain(name)}"),),
        )
        for name, d in list(result.defenders.items())[:MAX_PANELS]
        if d.cross_asr is not None and d.cross_asr.agents
    ]


@dataclass(frozen=True)
class Removal:
    """A filter at work."""

    defender: str
    scores: FilterScores
    what: str
    chart: Markup


def removal_figures(result: GameResult) -> list[Removal]:
    """Return what each filter removed."""
    figures = []
    for name, scores in result.defenders.items():
        roster = {agent.name: agent for agent in result.roster_of(name)}
        for one in scores.filters:
            what, rows = counts(one, roster)
            chart = removal_chart(rows[: MAX_BARS + 1], f"Rows removed by {plain(one.kind)}")
            figures.append(Removal(name, one, what, chart))
    return figures


def round_figures(result: GameResult, colours: dict[str, str]) -> list[ReportFigure]:
    """Return each defender's rounds of a federated game."""
    own = {agent.name: colours.get(agent.group, "c0") for agent in result.roster}
    groups = {agent.name: agent.group for agent in result.roster}
    figures = []
    for name, rounds in list(result.rounds.items())[:MAX_PANELS]:
        chart = round_chart(rounds, own, f"Rounds of {plain(name)}", groups)
        if chart is not None:
            skipped = sum(entry.skipped for entry in rounds)
            refused = sum(len(e.sampled) - len(e.admitted) for e in rounds)
            fallbacks = sum(bool(entry.fallback) for entry in rounds)
            told = f"{skipped} skipped" + (f", {fallbacks} by the fallback" if fallbacks else "")
            note = f"{many(len(rounds), 'round')}, {told}, {refused} updates refused"
            figures.append(ReportFigure(name, note, (chart,)))
    return figures


def curve_figures(result: GameResult) -> list[ReportFigure]:
    """Return the training curves of each defender."""
    figures = []
    for name, scores in list(result.defenders.items())[:MAX_PANELS]:
        charts = (
            curve_chart(scores.curves, word, f"{word} while {plain(name)} trains")
            for word in ("loss", "accuracy")
        )
        drawn = tuple(chart for chart in charts if chart is not None)
        if drawn:
            models = ", ".join(plain(curve.name, 40) for curve in scores.curves[:3])
            more = f" and {len(scores.curves) - 3} more" if len(scores.curves) > 3 else ""
            note = f"{many(len(scores.curves), 'model')} shown: {models}{more}"
            figures.append(ReportFigure(name, note, drawn))
    return figures
