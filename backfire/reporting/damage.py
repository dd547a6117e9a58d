"""What attackers that aim at clean accuracy cost: together, each alone, and in sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backfire.reporting.charts.gap import Gap, gap_chart
from backfire.reporting.figures import MAX_DOTS, MAX_PANELS, ReportFigure
from backfire.reporting.text import many, plain
from learning.statistics import Interval
from server.referee.damage.findings import ALONE_SCORE, AVERAGED, SUM, quantity
from server.referee.results import AgentRecord, DefenderScores, Difference, GameResult

# Costs are of a few points, and their axis is no wider than it need be.
STEP = 0.05


def damaging_groups(result: GameResult) -> frozenset[str]:
    """Return the groups whose admitted agents aim at damage."""
    return frozenset(agent.group for agent in result.roster if agent.admitted and agent.damages)


def damage_figures(result: GameResult, colours: dict[str, str]) -> list[ReportFigure]:
    """Return one panel for each defender; none where nobody aims at damage."""
    figures = []
    for name, scores in list(result.defenders.items())[:MAX_PANELS]:
        agents = [agent for agent in result.roster_of(name) if agent.admitted and agent.damages]
        gaps = [*_together(scores), *_alone(agents, scores, colours)] if agents else []
        if any(gap.difference is not None for gap in gaps):
            chart = gap_chart(gaps, f"Damage to {plain(name)}", STEP)
            figures.append(ReportFigure(name, _note(scores, len(agents)), (chart,)))
    return figures


def _together(scores: DefenderScores) -> Iterator[Gap]:
    if _known(scores.damage):
        yield Gap("together", scores.damage, "everybody")
    averaged = scores.more.get(AVERAGED)
    if isinstance(averaged, Difference) and _known(averaged):
        yield Gap("averaged", averaged, "everybody")
    summed = None if scores.malicious is None else quantity(scores.malicious, SUM)
    if summed is not None and None not in (summed.value, summed.low, summed.high):
        ends = (float(end or 0.0) / 100 for end in (summed.value, summed.low, summed.high))
        yield Gap("sum of alone", Interval(*ends), "control")


def _alone(
    agents: Sequence[AgentRecord], scores: DefenderScores, colours: dict[str, str]
) -> Iterator[Gap]:
    """Yield the agents that were played alone, the first 40, below a heading for each group."""
    heading = ""
    found = (
        (agent, own)
        for agent in agents
        if agent.name in scores.agents
        and isinstance(own := scores.agents[agent.name].more.get(ALONE_SCORE), Difference)
        and _known(own)
    )
    for number, (agent, own) in enumerate(found):
        if number == MAX_DOTS:
            return
        if agent.group != heading:
            heading = agent.group
            yield Gap(f"{agent.group}, each alone")
        yield Gap(agent.name, own, colours.get(agent.group, "c0"))


def _known(gap: Difference | None) -> bool:
    return gap is not None and gap.value is not None


def _note(scores: DefenderScores, agents: int) -> str:
    defences = plain(" + ".join(scores.defences) or "no defence", 200)
    once = "" if scores.damage is None else f", {many(scores.damage.trainings, 'training')}"
    return f"{defences}; {many(agents, 'attacker')}{once}"
