"""Round by round: each attacker's ASR and the clean accuracy of one defender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from backfire.reporting.charts.names import MOST_NAMES, ROOM, CurveEnd, end_names
from backfire.reporting.charts.svg import WIDTH, Scale, element, line, picture, text
from backfire.reporting.text import number, percent, plain
from server.referee.results import RoundScores

HEIGHT = 190.0
LEFT = 44.0
MAX_AGENTS = 60


def round_chart(
    rounds: Sequence[RoundScores],
    colours: Mapping[str, str],
    label: str,
    groups: Mapping[str, str] | None = None,
) -> Markup | None:
    """Return the scores of the evaluated rounds, or None where there are none.

    Args:
        rounds: In order.
        colours: Class of each malicious agent's line, by name.
        label: For screen readers.
        groups: Group of each malicious agent, by name: of more curves than have room for their
            names the groups are named, each where its agents end on average.
    """
    seen = [entry for entry in rounds if entry.clean_accuracy is not None]
    if not seen:
        return None
    y = Scale(HEIGHT, 24.0, 0.0, 1.0)
    x = Scale(LEFT, WIDTH - ROOM - 6, 0.0, float(max(rounds[-1].round, 1)))
    agents = list(dict.fromkeys(name for entry in seen for name in entry.asr))[:MAX_AGENTS]
    lines = [
        _line(
            name,
            [(e.round, e.asr[name].value) for e in seen if name in e.asr],
            x,
            y,
            f"curve {colours.get(name, 'c0')}",
        )
        for name in agents
    ]
    clean = [(e.round, e.clean_accuracy.value) for e in seen if e.clean_accuracy is not None]
    lines.append(_line("clean accuracy", clean, x, y, "curve validation everybody"))
    last = {name: [e.asr[name].value for e in seen if name in e.asr] for name in agents}
    known = {name: found[-1] or 0.0 for name, found in last.items()}
    ends = _ends(known, colours, groups or {})
    ends.append(("clean accuracy", clean[-1][1] or 0.0, "everybody"))
    named = [CurveEnd(name, y(value), colour) for name, value, colour in ends]
    names = end_names(named, x.end + 6, y.end, y.start)
    return picture(HEIGHT + 34, label, _axes(x, y), *lines, names)


def _ends(
    known: Mapping[str, float], colours: Mapping[str, str], groups: Mapping[str, str]
) -> list[tuple[str, float, str]]:
    """Return name, last value and colour of what is named: agents, or groups of many."""
    if len(known) < MOST_NAMES:
        return [(name, value, colours.get(name, "c0")) for name, value in known.items()]
    members: dict[str, list[str]] = {}
    for name in known:
        members.setdefault(groups.get(name, name), []).append(name)
    return [
        (group, sum(known[name] for name in own) / len(own), colours.get(own[0], "c0"))
        for group, own in list(members.items())[: MOST_NAMES - 1]
    ]


def _axes(x: Scale, y: Scale) -> Markup:
    parts = []
    for value in y.ticks(5):
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 6, y(value) + 4, f"{100 * value:g} %", "axis", "end"))
    parts += [
        text(x(value), y.start + 15, number(value), "axis", "middle")
        for value in x.ticks(6)
        if value == round(value)
    ]
    parts.append(text((x.start + x.end) / 2, y.start + 30, "round", "axis", "middle"))
    return Markup("").join(parts)


def _line(
    name: str, points: Sequence[tuple[int, float | None]], x: Scale, y: Scale, class_: str
) -> Markup:
    known = [(at, value) for at, value in points if value is not None]
    drawn = " ".join(f"{x(float(at)):.1f},{y(value):.1f}" for at, value in known)
    last = percent(known[-1][1]) if known else "–"
    title = element("title", f"{plain(name)}: {last} at the end")
    return element("polyline", title, points=drawn, class_=class_)
