"""What may be said of attackers that aim at clean accuracy: gates, in their order, then a finding.

1. Was the game without attackers played, and has its model learnt? A model that the attackers have
   destroyed is no void here: it is what they are after.
2. Do they do anything? The damage, or the sum of the damages alone, must surely be above zero.
3. Only then the interference, damages alone summed - damage: they hinder each other where it is
   surely above zero, help each other where it is surely below. Where others attack beside them,
   what they cost together is not known, and only what they cost alone is said.

With one training of each game a finding describes what happened in it; the noise of training is in
no interval over inputs.
"""

from __future__ import annotations

from typing import Final

from server.referee.learnt import has_learnt
from server.referee.results import (
    DefenderScores,
    Difference,
    Finding,
    FindingCode,
    GroupScores,
    Quantity,
)

SUM: Final = "damage_sum"
INTERFERENCE: Final = "damage_interference"
ALONE_SCORE: Final = "damage_alone"
AVERAGED: Final = "damage_averaged"

CODES: Final[frozenset[str]] = frozenset(
    {"no_damage", "damages", "hinder", "assist", "add_up", "beside_others"}
)
# How a finding ends that describes one training of each game.
HERE: Final = ", in this training"


def damage_finding(group: GroupScores, scores: DefenderScores, *, whole: bool) -> Finding:
    """Return what may be said of a group that aims at damage, against one defender.

    Args:
        group: The group's scores.
        scores: The defender's.
        whole: Whether nobody else attacks.
    """
    free, constant = scores.clean_accuracy_attacker_free, scores.constant_accuracy
    if free is None:
        return Finding(code="no_control")
    if constant is not None and not has_learnt(free, constant):
        return Finding(code="not_learnt")
    summed = quantity(group, SUM)
    lost = scores.damage if whole else None
    if lost is None and summed is None:
        return Finding(code="beside_others")
    trainings = None if scores.damage is None else scores.damage.trainings
    if not (_surely_lost(lost) or _surely_above(summed)):
        return Finding(code="no_damage", most=_most(lost, summed), trainings=trainings)
    return Finding(code=_interplay(quantity(group, INTERFERENCE)), trainings=trainings)


def quantity(group: GroupScores, name: str) -> Quantity | None:
    """Return an amount of a group by name; None where it has none, or one without a value."""
    found = group.more.get(name)
    return found if isinstance(found, Quantity) and found.value is not None else None


def _interplay(gap: Quantity | None) -> FindingCode:
    if gap is None or gap.low is None or gap.high is None:
        return "damages"
    if gap.low > 0:
        return "hinder"
    return "assist" if gap.high < 0 else "add_up"


def _surely_lost(lost: Difference | None) -> bool:
    return lost is not None and lost.value is not None and lost.low > 0


def _surely_above(amount: Quantity | None) -> bool:
    return amount is not None and amount.low is not None and amount.low > 0


def _most(lost: Difference | None, summed: Quantity | None) -> float:
    """Return the upper end of what is lost, a share; of the sum alone where that is all there is.

    A sum may exceed all accuracy that there is to lose.
    """
    if lost is not None:
        return max(0.0, lost.high)
    return 1.0 if summed is None or summed.high is None else min(1.0, max(0.0, summed.high / 100))
