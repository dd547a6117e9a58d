"""What attackers that aim at clean accuracy have done, in sentences.

What may be said is decided by `server.referee.damage.findings`. No sentence here speaks of success
rates: such an attacker has no input that could succeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server.referee.damage.findings import ALONE_SCORE, HERE, INTERFERENCE, SUM, quantity
from server.referee.results import (
    DefenderScores,
    Difference,
    Finding,
    GroupScores,
    Quantity,
)
from server.referee.wording import many, points_of


@dataclass(frozen=True)
class Damaging:
    """Attackers that aim at damage.

    Attributes:
        name: What they are called: a group, or several.
        agents: Their names.
        scores: Theirs against one defender; None where they could not be scored.
        whole: Whether nobody else attacks.
        several: Whether the name is that of several groups.
    """

    name: str
    agents: tuple[str, ...]
    scores: GroupScores | None
    whole: bool
    several: bool = False


def damage_sentence(who: Damaging, against: str, defender: DefenderScores) -> str:
    """Return what they cost a defender, together and alone, in one sentence.

    Args:
        who: The attackers.
        against: What the defender is called, such as ``the undefended model``.
        defender: All scores of that defender.
    """
    found = Finding(code="not_alone") if who.scores is None else who.scores.finding
    code = "not_alone" if found is None else found.code
    if code == "no_control":
        return (
            f"Nothing can be said of {who.name}: the game without attackers was not played "
            "(referee.attacker_free)."
        )
    if code == "not_learnt":
        return f"Nothing can be said of {who.name}: without attackers {against} learnt nothing."
    if who.scores is None or code not in _SAID:
        return f"What {_costs(who)} cannot be told from what the other attackers cost."
    lost = defender.damage if who.whole else None
    said = "; ".join(filter(None, (_together(who, lost, code), _alone(who, defender, code))))
    return f"Against {against}, {said}{_trainings(defender.damage)}."


_SAID = {
    "no_damage": "",
    "damages": "",
    "hinder": "they hinder each other: together they do {gap} points less",
    "assist": "they help each other: together they do {gap} points more",
    "add_up": "whether they hinder or help each other cannot be told",
}


def lost_words(lost: Difference | None) -> str:
    """Return what a defender lost to the attackers, in words; empty where that is not known."""
    if lost is None or lost.value is None:
        return ""
    once = HERE if lost.trainings == 1 else ""
    if lost.low <= 0 <= lost.high:
        return f"no loss to the attackers that can be told from none ({_interval(lost)}){once}"
    sign, word = (1, "less") if lost.value > 0 else (-1, "more")
    return (
        f"with the attackers {points_of(abs(lost.value))} points {word} than without "
        f"({_interval(lost, sign)}){once}"
    )


def _does(who: Damaging) -> str:
    return f"{who.name} {'do' if who.several else 'does'}"


def _costs(who: Damaging) -> str:
    return f"{who.name} {'cost' if who.several else 'costs'}"


def _together(who: Damaging, lost: Difference | None, code: str) -> str:
    if lost is None or lost.value is None:
        return "" if code != "no_damage" else f"{_does(who)} no damage that can be told from none"
    if code == "no_damage" or lost.low <= 0:
        beside = (
            f"clean accuracy changes by {points_of(-lost.value)} points ({_interval(lost, -1)})"
        )
        together = " together" if code != "no_damage" and len(who.agents) > 1 else ""
        return f"{_does(who)} no damage{together} that can be told from none: {beside}"
    together = " together" if len(who.agents) > 1 else ""
    return (
        f"{_costs(who)} {points_of(lost.value)} points of clean accuracy{together} "
        f"({_interval(lost)})"
    )


def _alone(who: Damaging, defender: DefenderScores, code: str) -> str:
    values = _alone_values(who, defender)
    if not values or who.scores is None or (who.whole and len(who.agents) == 1):
        return ""
    least, most = points_of(min(values)), points_of(max(values))
    each = f"{least} points" if least == most else f"{least} to {most} points each"
    summed, gap = quantity(who.scores, SUM), quantity(who.scores, INTERFERENCE)
    some = "" if len(values) == len(who.agents) else f"{len(values)} of "
    agents = many(len(who.agents), "agent")
    its = "their" if who.several else "its"
    whom = f"{its} {agents}" if who.whole else f"the {agents} of {who.name}"
    said = f"alone {some}{whom} cost {each}"
    if summed is not None and len(values) > 1:
        said += f" and {_amount(summed)} in sum"
    if gap is None or gap.value is None or code not in ("hinder", "assist", "add_up"):
        return said
    words = _SAID[code].format(gap=points_of(abs(gap.value) / 100))
    sign = -1 if code == "assist" else 1
    return f"{said}; {words} ({_interval_of(gap, sign)})"


def _alone_values(who: Damaging, defender: DefenderScores) -> list[float]:
    found = (
        defender.agents[name].more.get(ALONE_SCORE)
        for name in who.agents
        if name in defender.agents
    )
    return [one.value for one in found if isinstance(one, Difference) and one.value is not None]


def _trainings(lost: Difference | None) -> str:
    if lost is None:
        return ""
    if lost.trainings == 1:
        return HERE
    return f", means of {lost.trainings} trainings"


def _amount(amount: Quantity) -> str:
    value = "unknown" if amount.value is None else points_of(amount.value / 100)
    return f"{value} points ({_interval_of(amount)})"


def _interval(gap: Difference, sign: int = 1) -> str:
    ends = sorted((sign * gap.low, sign * gap.high))
    return f"95 % interval {points_of(ends[0])} to {points_of(ends[1])}"


def _interval_of(amount: Quantity, sign: int = 1) -> str:
    ends = sorted((sign * (amount.low or 0.0), sign * (amount.high or 0.0)))
    return f"95 % interval {points_of(ends[0] / 100)} to {points_of(ends[1] / 100)}"


def named(groups: Sequence[str]) -> str:
    """Return what several groups are called together."""
    return groups[0] if len(groups) == 1 else f"{', '.join(groups[:-1])} and {groups[-1]}"
