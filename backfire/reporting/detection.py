"""How well the rules of a federated game told who cheats: what the report shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.detection import (
    KINDS,
    Bar,
    Weight,
    auroc_line,
    round_bars,
    share_bars,
    weight_bars,
)
from backfire.reporting.text import plain
from server.referee.results import (
    AgentDetection,
    AgentRecord,
    DefenderScores,
    DetectionScores,
    GameResult,
    RoundDetection,
    RoundScores,
)

MAX_AGENTS = 40
MAX_PANELS = 16
MAX_NOTES = 60


@dataclass(frozen=True)
class DetectionRow:
    """A defender in the table of all.

    Attributes:
        defender: Foreign text.
        scores: All its scores.
        rounds: Rounds of the game.
        skipped: Those in which its model stayed as it was.
        fallbacks: Those in which another rule aggregated.
    """

    defender: str
    scores: DefenderScores
    rounds: int
    skipped: int
    fallbacks: int


@dataclass(frozen=True)
class DetectionCard:
    """A defender whose rule judges agents.

    Attributes:
        defender: Foreign text.
        detection: Its sums.
        what: What a row of the first chart is: ``agent`` or ``group``.
        by_agent: The first chart.
        by_round: The second.
    """

    defender: str
    detection: DetectionScores
    what: str
    by_agent: Markup
    by_round: Markup


@dataclass(frozen=True)
class Note:
    """What was noted in some rounds of a defender."""

    defender: str
    rounds: str
    words: str


def rows(result: GameResult) -> list[DetectionRow]:
    """Return the defenders that played rounds."""
    return [
        DetectionRow(
            name,
            result.defenders[name],
            len(rounds),
            sum(entry.skipped for entry in rounds),
            sum(bool(entry.fallback) for entry in rounds),
        )
        for name, rounds in result.rounds.items()
        if name in result.defenders
    ]


def cards(result: GameResult, colours: Mapping[str, str]) -> list[DetectionCard]:
    """Return a card for each defender whose rule judges agents."""
    found: list[DetectionCard] = []
    for name, rounds in result.rounds.items():
        detection = result.defenders[name].detection if name in result.defenders else None
        if detection is not None and len(found) < MAX_PANELS:
            roster = {agent.name: agent for agent in result.roster_of(name)}
            found.append(_card(name, detection, rounds, roster, colours))
    return found


def _card(
    name: str,
    detection: DetectionScores,
    rounds: Sequence[RoundScores],
    roster: Mapping[str, AgentRecord],
    colours: Mapping[str, str],
) -> DetectionCard:
    single = len(detection.by_agent) <= MAX_AGENTS
    judged = {entry.round: entry.detection for entry in rounds if entry.detection is not None}
    last = max((entry.round for entry in rounds), default=1)
    shown, who = plain(name), "agent" if single else "group"
    if detection.removed is None:
        known = {at: one.auroc for at, one in judged.items() if one.auroc is not None}
        weights = _weights(list(judged.values()), roster, colours, single)
        by_agent = weight_bars(weights, f"Mean weight by {who}, {shown}")
        by_round = auroc_line(known, last, f"AUROC by round, {shown}")
    else:
        bars = {name: _agent_bar(name, own) for name, own in detection.by_agent.items()}
        chosen = list(bars.values()) if single else _by_group(bars, roster)
        by_agent = share_bars(chosen, f"Updates removed by {who}, {shown}")
        each = {e.round: _round_bar(e, e.detection) for e in rounds if e.detection is not None}
        by_round = round_bars(each, last, f"Updates removed by round, {shown}")
    return DetectionCard(name, detection, who, by_agent, by_round)


def _agent_bar(name: str, own: AgentDetection) -> Bar:
    caught, removed = own.caught or 0, own.removed or 0
    honest = own.judged - own.cheated
    counts = (caught, own.cheated - caught, removed - caught, honest - (removed - caught))
    # A foreign file need not add up.
    return Bar(name, {kind: max(0, n) for kind, n in zip(KINDS, counts, strict=True)})


def _round_bar(entry: RoundScores, found: RoundDetection) -> Bar:
    admitted, taken, cheats = set(entry.admitted), set(entry.selected or ()), set(found.cheated)
    parts = {
        "caught": len(admitted & cheats - taken),
        "missed": len(admitted & cheats & taken),
        "lost": len(admitted - cheats - taken),
        "kept": len(admitted & taken - cheats),
    }
    return Bar(f"round {entry.round}", parts)


def _by_group(bars: Mapping[str, Bar], roster: Mapping[str, AgentRecord]) -> list[Bar]:
    groups: dict[str, list[Bar]] = {}
    for name, bar in bars.items():
        groups.setdefault(roster[name].group if name in roster else "unknown", []).append(bar)
    merged = [
        Bar(group, {kind: sum(bar.parts[kind] for bar in members) for kind in KINDS})
        for group, members in groups.items()
    ]
    return merged[:MAX_AGENTS]


def _weights(
    judged: Sequence[RoundDetection],
    roster: Mapping[str, AgentRecord],
    colours: Mapping[str, str],
    single: bool,
) -> list[Weight]:
    heard: dict[str, list[float]] = {}
    groups: dict[str, str] = {}
    for found in judged:
        for agent, weight in (found.weights or {}).items():
            group = roster[agent].group if agent in roster else "unknown"
            row = agent if single else group
            heard.setdefault(row, []).append(weight)
            groups[row] = group
    order = {name: k for k, name in enumerate(roster)}
    names = sorted(heard, key=lambda name: order.get(name, 0))[:MAX_AGENTS]
    return [
        Weight(name, sum(heard[name]) / len(heard[name]), colours.get(groups[name], "c0"))
        for name in names
    ]


def notes(result: GameResult) -> list[Note]:
    """Return what was noted in which rounds: skipped ones, fallbacks, and what rules had to say."""
    found: list[Note] = []
    for name, rounds in result.rounds.items():
        said: dict[str, list[int]] = {}
        for entry in rounds:
            if entry.note:
                said.setdefault(entry.note, []).append(entry.round)
        found += [Note(name, spans(numbers), words) for words, numbers in said.items()]
    return found[:MAX_NOTES]


def spans(numbers: Sequence[int], most: int = 12) -> str:
    """Return rising numbers as ``1, 3 to 5``, cut after `most` spans."""
    runs: list[list[int]] = []
    for one in numbers:
        if runs and one == runs[-1][1] + 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    told = [f"{a}" if a == b else f"{a} to {b}" for a, b in runs[:most]]
    return ", ".join(told) + (" ..." if len(runs) > most else "")
