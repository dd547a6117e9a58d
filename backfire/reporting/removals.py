"""What a filter removed: poisoned rows caught and missed, clean rows lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.svg import WIDTH, Scale, box, element, line, picture, text
from backfire.reporting.text import NAME, fitted, many, number, plain
from server.referee.results import AgentRecord, FilterScores

MAX_AGENTS = 40
LABEL = 100.0
NOTE = 74.0
STEP = 19.0


@dataclass(frozen=True)
class Count:
    """Rows of one agent or group: caught and missed are poisoned, lost are clean and removed."""

    name: str
    caught: int
    missed: int
    lost: int

    @property
    def total(self) -> int:
        """Rows shown."""
        return self.caught + self.missed + self.lost


def counts(scores: FilterScores, roster: Mapping[str, AgentRecord]) -> tuple[str, list[Count]]:
    """Return what the rows of the chart are (``agent`` or ``group``), and the rows.

    Agents one by one where they are few; else by group. Rows that no listed agent contributed
    are the defender's own.
    """
    single = {name: _count(name, found) for name, found in scores.by_agent.items()}
    own = Count(
        "other rows", 0, 0, scores.removed - sum(c.caught + c.lost for c in single.values())
    )
    what = "agent" if len(single) <= MAX_AGENTS else "group"
    rows = list(single.values()) if what == "agent" else _by_group(single, roster)
    return what, [*rows, own] if own.lost > 0 else rows


def _count(name: str, found: tuple[int, int, int]) -> Count:
    removed, poisoned, hit = found
    return Count(name, hit, poisoned - hit, removed - hit)


def _by_group(single: Mapping[str, Count], roster: Mapping[str, AgentRecord]) -> list[Count]:
    groups: dict[str, list[Count]] = {}
    for name, count in single.items():
        groups.setdefault(roster[name].group if name in roster else "unknown", []).append(count)
    merged = [
        Count(
            group,
            sum(c.caught for c in members),
            sum(c.missed for c in members),
            sum(c.lost for c in members),
        )
        for group, members in groups.items()
    ]
    return sorted(merged, key=lambda count: -count.total)[:MAX_AGENTS]


def removal_chart(rows: list[Count], label: str) -> Markup:
    """Return stacked bars: caught, missed, lost."""
    scale = Scale(LABEL, WIDTH - NOTE, 0.0, float(max((row.total for row in rows), default=0) or 1))
    bottom = 4 + STEP * len(rows)
    grid = []
    for value in scale.ticks(4):
        grid.append(line(scale(value), 4, scale(value), bottom, "grid"))
        grid.append(text(scale(value), bottom + 14, number(value), "axis", "middle"))
    bars = [_bars(row, scale, 4 + STEP * k) for k, row in enumerate(rows)]
    return picture(bottom + 20, label, *grid, *bars)


def _bars(row: Count, scale: Scale, y: float) -> Markup:
    words = (
        f"{plain(row.name)}: {many(row.caught, 'poisoned row')} removed, {number(row.missed)} "
        f"missed; {many(row.lost, 'clean row')} removed"
    )
    parts, x = [element("title", words)], scale(0.0)
    for value, class_ in ((row.caught, "caught"), (row.missed, "missed"), (row.lost, "lost")):
        if value > 0:
            long = scale(float(value)) - scale(0.0)
            parts.append(box(x, y + 3, long - 1, STEP - 6, class_))
            x += long
    parts.append(text(4, y + 14, fitted(plain(row.name), NAME), "label"))
    note = f"{number(row.caught)}/{number(row.caught + row.missed)} +{number(row.lost)}"
    parts.append(text(WIDTH - 4, y + 14, note, "value", "end"))
    return element("g", *parts)
